"""Small copies of the data sets' label files, and the frame directories that they name."""
import json

V2 = {"labels": {"Holding something": "1", "Approaching something with your camera": "0",
                 "Putting something next to something": "2"},
      "train": [{"id": "78687", "label": "holding potato next to vicks bottle", "placeholders": ["potato", "vicks"],
                 "template": "Putting [something] next to [something]"},
                {"id": "42326", "label": "holding a pen", "placeholders": ["a pen"],
                 "template": "Holding [something]"}],
      "validation": [{"id": "74225", "template": "Approaching [something] with your camera"}],
      "test": [{"id": "1420"}, {"id": "3"}]}
V2_FRAMES = {"78687": 5, "42326": 6, "74225": 7, "1420": 8, "3": 9}
KINETICS = "label,youtube_id,time_start,time_end,split\n"


def write(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def add_frames(root, template, counts):
    for directory, count in counts.items():
        (root / directory).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            (root / directory / template.format(number)).touch()


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()
