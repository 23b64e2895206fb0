"""The content of directories."""


def tree(directory):
    """Relative path -> content of every file below `directory`, hidden ones too."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
