"""docs/models.md says what the sweep found."""

from models_page import PAGE, page


def test_the_page_is_made_from_the_families() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/architectures/models_page.py"
