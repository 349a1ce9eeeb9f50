"""The report page in a real browser: made from data that attack it, at the width of a desk and of a phone, light and dark."""

import pytest
from made_up_results import HOW, results

from sentiflow.reporting import html_report

SCRIPT = "<script>window.ran = 1; alert(1)</script><img src=x onerror='window.ran = 1'>"
CLASSES = ("no\"><svg onload='window.ran = 1'>", "<b onclick=window.ran=1>yes</b>")
TEXTS = [
    SCRIPT,
    f"</p></details></style></title>{SCRIPT}",
    "<a href='javascript:window.ran=1'>x</a><iframe src='https://example.org'></iframe>",
    "{{ 7 * 7 }}{% raw %}",
    "unbroken" * 400,
    "\u202e right to left \u0000 and nothing",
]

# Every element that holds text of its own: its colour against the colours behind it, the nearest first.
CONTRASTS = """() => {
  const parse = colour => { const n = colour.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), alpha: n[3] ?? 1}; };
  const over = (front, back) => front.rgb.map((c, i) => c * front.alpha + back[i] * (1 - front.alpha));
  const light = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  document.querySelectorAll("details").forEach(each => { each.open = true; });
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(parse(getComputedStyle(each).backgroundColor));
    const behind = layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(over(parse(ink), behind)), light(behind)];
    found.push({
      where: `${element.tagName}.${element.getAttribute("class")}`,
      ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
    });
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a page made from hostile data is."""
    folder = tmp_path_factory.mktemp("report")
    names = ("nb_svm", "lstm", "lstm_attention")
    found = results(folder, names=names, classes=CLASSES, texts=TEXTS * 10, location=f"{'folder/' * 40}{SCRIPT}")
    (folder / "report.html").write_text(html_report.render(found, HOW), encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def shown(request, browser, address):
    """The page in a tab, and what happened while it was opened: requests, dialogs, lines of the console and errors."""
    width, scheme = request.param
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    happened = []
    tab.on("request", lambda asked: happened.append(f"request {asked.url}"))
    tab.on("console", lambda line: happened.append(f"console {line.text}"))
    tab.on("pageerror", lambda error: happened.append(f"error {error}"))
    tab.on("dialog", lambda dialog: (happened.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.goto(address)
    yield tab, happened, address
    tab.close()


def test_the_page_asks_for_nothing_but_itself_and_runs_no_script(shown):
    tab, happened, address = shown
    tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    tab.mouse.wheel(0, 100_000)
    tab.wait_for_timeout(200)
    assert happened == [f"request {address}"]
    assert tab.evaluate("window.ran") is None
    assert tab.title().startswith("Sentiment models: ")
    assert tab.evaluate("document.querySelectorAll('script, img, iframe, b, [onload], [onerror], [onclick]').length") == 0
    text = tab.evaluate("document.body.textContent")
    for hostile in (SCRIPT, "{{ 7 * 7 }}{% raw %}", *CLASSES):
        assert hostile in text


def test_the_page_never_scrolls_sideways(shown):
    tab, _, _ = shown
    for opened in ("false", "true"):
        tab.evaluate(f"document.querySelectorAll('details').forEach(each => {{ each.open = {opened}; }})")
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("innerWidth")


def test_every_text_stands_out_from_what_is_behind_it(shown):
    tab, _, _ = shown
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert not [found for found in contrasts if found["ratio"] < 4.5]  # WCAG 2.2, level AA


def test_dark_is_dark_and_light_is_light(shown):
    tab, _, _ = shown
    dark = tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(background) < 64) == dark
    assert (min(background) > 192) != dark


def test_a_wide_table_can_be_reached_and_scrolled_with_the_keyboard(browser, address):
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(address)
    box = tab.get_by_role("region", name="All models on test")
    box.focus()
    assert box.evaluate("each => each === document.activeElement && each.scrollWidth > each.clientWidth")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(500)  # it moves smoothly; the page's policy lets no condition be evaluated in it
    assert box.evaluate("each => each.scrollLeft") > 0
    tab.close()
