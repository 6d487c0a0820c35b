"""What the wheel holds is what the checkout holds."""

from __future__ import annotations

import wheel_content


def test_pyproject_lists_every_package():
    assert wheel_content.listed_packages() == wheel_content.packages_on_disk()


def test_no_test_is_in_a_package():
    assert not [path for path in wheel_content.files_on_disk() if "test" in path.rsplit("/", 1)[-1].split("_")]
