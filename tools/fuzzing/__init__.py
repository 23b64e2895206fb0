"""The parts of tools/fuzz.py: ways of damage, the inputs of each kind, and the process that they are tried in."""
KINDS = {"lists": "list files", "images": "frames (JPEG, PNG, WebP)",
         "videos": "videos (H.264 in MP4 and Matroska, VP9, MPEG-4 in AVI; real ones)",
         "labels": "label files of six data sets, csv, datasets.yaml"}
