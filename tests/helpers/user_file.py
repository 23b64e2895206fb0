"""A datasets.yaml with two data sets, and the lists that it names."""


def yaml_file(tmp_path, text):
    (tmp_path / "lists").mkdir(exist_ok=True)
    for name in ("train.txt", "val.txt"):
        (tmp_path / "lists" / name).write_text("a 3 0\nb 4 1\n")
    (tmp_path / "lists" / "category.txt").write_text("first\nsecond\n")
    (tmp_path / "own.yaml").write_text(text)
    return tmp_path / "own.yaml"


GOOD = """# mine
007:
  root: .
  train_list: lists/train.txt
  val_list: lists/val.txt
  categories: lists/category.txt
  template: "img_{:05d}.jpg"
no: {root: ., train_list: lists/train.txt, val_list: lists/val.txt, num_class: 9}
"""
