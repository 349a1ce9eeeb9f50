"""The report with a verdict in a real browser: hostile data, the widths of a desktop and a phone, light and dark."""

import pytest
from made_up_results import HOW, results

from sentiflow.reporting import decision_page, html_report

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

VERDICT = decision_page.Decision(
    headline=f"Ship {SCRIPT}.",
    reason=SCRIPT,
    versions=[
        decision_page.Version(role, SCRIPT, "3", "364f22f", "2026-11-30 19:54 UTC", SCRIPT) for role in ("champion", "challenger")
    ],
    judged=SCRIPT,
    rules=[decision_page.Rule(SCRIPT, passes, SCRIPT, SCRIPT) for passes in (True, False, None)],
    models=[decision_page.Row("lstm_attention", 0.9, 0.88, 0.92, 0.02, True, "3", "champion", 103.2, 24.1, 1205.3)] * 9,
    store="sqlite:///mlflow.db",
    written="2026-11-30 20:00 UTC",
)

# Contrast of each element with text: its colour against the blended colours behind it.
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
    """Address of a page made from hostile data."""
    folder = tmp_path_factory.mktemp("report")
    names = ("nb_svm", "lstm", "lstm_attention")
    found = results(folder, names=names, classes=CLASSES, texts=TEXTS * 10, location=f"{'folder/' * 40}{SCRIPT}")
    page = decision_page.insert(html_report.render(found, HOW), VERDICT)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def shown(request, browser, address):
    """The page in a tab; its requests, dialogs, console lines and errors; its address."""
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


def test_the_page_requests_only_itself_and_runs_no_script(shown):
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


def sheets(tab):
    return tab.evaluate("[...document.querySelectorAll('section.sheet')].map(each => each.id)")


def test_no_part_of_the_page_scrolls_sideways(shown):
    tab, _, address = shown
    for part in ("", *sheets(tab)):
        tab.goto(f"{address}#{part}")
        for opened in ("false", "true"):
            tab.evaluate(f"document.querySelectorAll('details').forEach(each => {{ each.open = {opened}; }})")
            assert tab.evaluate("document.documentElement.scrollWidth") <= tab.evaluate("innerWidth"), part


def test_an_address_shows_either_the_overview_or_one_of_the_other_parts(shown):
    tab, _, address = shown
    names = sheets(tab)
    for part in ("", "glance", "best", *names):
        tab.goto(f"{address}#{part}")
        parts = tab.evaluate(
            "[...document.querySelectorAll('#overview, section.sheet')].filter(each => each.offsetParent).map(each => each.id)"
        )
        assert parts == [part if part in names else "overview"]


def test_every_text_has_enough_contrast(shown):
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
    tab.goto(f"{address}#models")
    box = tab.get_by_role("region", name="All models on test")
    box.focus()
    assert box.evaluate("each => each === document.activeElement && each.scrollWidth > each.clientWidth")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(500)  # it moves smoothly; the page's policy lets no condition be evaluated in it
    assert box.evaluate("each => each.scrollLeft") > 0
    tab.close()
