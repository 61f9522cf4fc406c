"""Write docs/images/report.png: the top of a run's report as headless Chromium draws it.

Usage: python scripts/make_picture.py RUN_FOLDER [HEIGHT]
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1200, 1640


def main() -> int:
    """Draw the page, and store the picture with few colours so that it stays small."""
    from PIL import Image

    page = Path(sys.argv[1]) / "report.html"
    height = int(sys.argv[2]) if len(sys.argv) > 2 else HEIGHT
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None or not page.is_file():
        print(f"This needs Chromium and the file {page}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/home"]
        size = [f"--window-size={WIDTH},{height}", f"--screenshot={raw}"]
        subprocess.run([browser, *options, *size, page.resolve().as_uri()], check=True, capture_output=True)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        Image.open(raw).convert("RGB").quantize(128).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
