"""The page on a dataset: what stands on it, and that nothing of the data becomes markup."""

import re

from lorasum.data.records import Manifest, SplitStats
from lorasum.pages.data_page import data_page
from lorasum.results.training import RenderedExample

STATS = SplitStats(3, 2, 900, 90, 400, 0.9, 100, "a:1", "a:2", (1, 0, 2))
TEST = SplitStats(1, 1, 100, 10, 100, 0.2, 100, "a:1", "a:2", (0, 0, 1))
LEFT_OUT, SHARED = {"no summary": 4, "too long": 0}, {"exact": 1, "near": 0}
MANIFEST = Manifest(
    "abc", "<b>{dialogue}", "org/m", None, 2, 512, {"train": STATS, "test": TEST}, LEFT_OUT, "0.1.0", SHARED
)
EXAMPLES = [RenderedExample("<i>hi", "<u>bye", 9)]


def test_it_shows_the_figures_and_escapes_what_is_not_ours() -> None:
    html = data_page("r<un", MANIFEST, EXAMPLES)
    assert "r&lt;un" in html
    assert "&lt;b&gt;{dialogue}" in html
    assert '<pre>&lt;i&gt;hi<mark class="trained">&lt;u&gt;bye</mark></pre>' in html
    assert not {"<b>", "<i>", "<u>", "<script"} & set(re.findall(r"<\w+>?", html))
    assert re.search(r"no summary</th><td[^>]*>4<", html)
    assert "too long" not in html, "nothing is said of what did not happen"
    assert "shared with the test split: exact" in html


def test_both_splits_have_one_scale_with_max_length_on_it() -> None:
    html = data_page("r", MANIFEST)
    assert html.count('<rect class="run-0"') == 6
    assert html.count(">max_length</text>") == 2
    far = data_page("r", Manifest("abc", "{dialogue}", "org/m", None, 2, 9000, {"train": STATS}, {}, "0.1.0"))
    assert "max_length, 9,000, is beyond the right edge" in far


def test_the_rows_left_out_are_linked_where_there_are_any() -> None:
    assert '<a href="../rejected/abc.jsonl">' in data_page("r", MANIFEST, rejected="../rejected/abc.jsonl")
    assert "rejected" not in data_page("r", MANIFEST)


def test_a_phone_and_a_screen_reader_can_read_it() -> None:
    html = data_page("r", MANIFEST)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    labels = re.findall(r'role="img" aria-label="([^"]+)"', html)
    assert labels[0] == "3 examples of train by length: 100 to 400 tokens, most of them near 334; max_length is 512"


def test_it_loads_nothing() -> None:
    html = data_page("r", MANIFEST, EXAMPLES, "../rejected/abc.jsonl")
    assert not re.findall(r"(?:https?:)?//|@import|url\(|<link|<img|<script|src=", html)
