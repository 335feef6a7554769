from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders

from console.vendor import VendorFinder

NAME = "vendor/plotly.min.js"


def test_the_file_is_found_in_its_package():
    found = finders.find(NAME)

    assert Path(found).name == "plotly.min.js"
    assert settings.BASE_DIR / "static" not in Path(found).parents


def test_only_the_files_that_are_named_are_collected():
    collected = [f"{storage.prefix}/{name}" for name, storage in VendorFinder().list(None)]

    assert collected == list(settings.VENDOR_FILES)
    assert finders.find("vendor/widgetbundle.js") is None


def test_the_policy_allows_the_one_style_that_plotly_inserts():
    script = Path(finders.find(NAME)).read_text()
    inserted = re.search(r"textContent='(\.maplibregl-map\{[^']*)'", script)
    assert inserted is not None, "plotly no longer inserts this style: take its hash out of the policy"

    digest = base64.b64encode(hashlib.sha256(inserted[1].encode()).digest()).decode()

    assert f"'sha256-{digest}'" == settings.PLOTLY_STYLE
