"""Download released TSM weights into the cache directory ($TSM_CACHE, else ~/.cache/tsm) and print their paths.

    python tools/download_weights.py --list
    python tools/download_weights.py TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50

An interrupted download is resumed by the next run. A file that exists already is only checked: its SHA-256 is recorded
the first time and compared from then on. A copy from elsewhere may be put into the directory by hand.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.checkpoints.model_zoo import MODEL_ZOO, ZooModel, base_url, cached_file, fetch
from ops.common.cli import Parser, run
from ops.common.errors import UserError
from ops.common.words import counted


def main() -> None:
    args = build_parser().parse_args()
    if args.list:
        rows = [describe(row, args.url) for row in MODEL_ZOO]
        print(json.dumps(rows, indent=2) if args.json else "\n".join(map(in_words, rows)))
        return
    if not args.name:
        raise UserError("name a model to download, or ask for their names with --list")
    for name in args.name:
        print(fetch(name, args.url), flush=True)


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", metavar="NAME", help="a released file, with or without its extension")
    parser.add_argument("--list", action="store_true", help="list the released models with their published accuracies")
    parser.add_argument("--json", action="store_true", help="with --list: print JSON")
    parser.add_argument("--url", metavar="ADDRESS",
                        help="directory of the files on a mirror (default: $TSM_MODELS_URL, else the publisher's)")
    return parser


def describe(row: ZooModel, url: str | None) -> dict[str, Any]:
    """A model as plain values."""
    path = cached_file(row.name)
    return {"name": row.name, "dataset": row.dataset, "model": row.model, "segments": row.segments,
            "published": [{"protocol": score.protocol, "flags": "--{} {}".format(*score.option), "top1": score.top1,
                           "top5": score.top5} for score in row.scores], "url": f"{base_url(url)}/{row.name}",
            "path": str(path), "downloaded": path.exists()}


def in_words(row: dict[str, Any]) -> str:
    """One model as a few lines."""
    frames = counted(row["segments"], "frame")
    lines = [row["name"] + (" (downloaded)" if row["downloaded"] else ""),
             f"    {row['model']} on {row['dataset']}, {frames}, {row['url']}"]
    for score in row["published"]:
        top5 = f", top-5 {score['top5']}%" if score["top5"] else ""
        flags = f"--test_segments {row['segments']} {score['flags']}"
        lines.append(f"    published: {score['top1']}%{top5} ({score['protocol']}; test_models.py {flags})")
    return "\n".join(lines if row["published"] else [*lines, "    published: no accuracy"])


if __name__ == "__main__":
    run(main)
