"""Each page of the built site, as a browser shows it that has no network.

JAXACT_SITE is the folder that ``mkdocs build`` has written, as in CI; without it the site is built
first. tests/support/chromium.py has the rest.
"""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxact
from tests.support import chromium

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PHONE, DESKTOP = (390, 844), (1400, 900)
#: What is looked at: the front page, the gallery, a function, a notebook.
SHOWN = ["", "functions/", "functions/prelu/", "notebooks/choosing/"]


@pytest.fixture(scope="module")
def browser():
    # Names of other machines are not found.
    with chromium.launched("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as found:
        yield found


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    if folder := os.environ.get("JAXACT_SITE"):
        assert (Path(folder) / "index.html").is_file(), f"JAXACT_SITE={folder}: no site is there"
        return Path(folder)
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    for command in (["website"], ["mkdocs", "build", "--strict", "--site-dir", str(folder)]):
        run = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve():
    """A function that serves a folder, and returns its address."""
    servers = []

    def served(folder):
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield served
    for server in servers:
        server.shutdown()
        server.server_close()


def window(browser, size, scheme):
    return browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    ).new_page()


#: Texts outside of code, with what should not be in them.
TEXTS = r"""
() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (parent.closest("pre, code, script, style, template, noscript")) continue;
    const shown = text.data.trim().slice(0, 60);
    if (/\\[\[\](){}]|\\[A-Za-z]{2,}|\$\$|\$[^\s$][^$]*\$/.test(text.data))
      found.push("a raw formula: " + shown);
    if (text.data.includes(">>>") || (shown && parent.closest("blockquote blockquote blockquote")))
      found.push("an example outside of code: " + shown);
  }
  return found;
}
"""

#: Images that did not load, and those of the other theme.
IMAGES = """
async scheme => {
  const found = [], images = [...document.images];
  await Promise.all(images.map(image => {
    image.loading = "eager";
    return image.decode().catch(() => null);
  }));
  for (const image of images) {
    const source = image.getAttribute("src").slice(0, 80);
    if (!image.complete || !image.naturalWidth) found.push("a broken image: " + source);
    const theme = /#only-(light|dark)$/.exec(source);
    if ((image.getClientRects().length > 0) !== (!theme || theme[1] === scheme))
      found.push(`an image that is ${theme ? "of" : "not shown,"} ${scheme}: ` + source);
    if (theme && !images.some(other => other.getAttribute("src") ===
        image.getAttribute("src").replaceAll(theme[1], theme[1] == "light" ? "dark" : "light")))
      found.push("an image of one theme alone: " + source);
  }
  return found;
}
"""

#: What is wider than the window, and has no box of its own to scroll in.
WIDTHS = """
() => {
  const found = [], width = window.innerWidth;
  if (document.scrollingElement.scrollWidth > width) found.push("the page scrolls sideways");
  const scrolls = element => {
    for (let box = element; box && box !== document.body; box = box.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)
          && box.getBoundingClientRect().right <= width + 1) return true;
    return false;
  };
  for (const element of document.querySelectorAll("article *")) {
    if (element.getBoundingClientRect().right > width + 1 && !scrolls(element))
      found.push(`<${element.localName}> is wider than ${width}: `
        + element.textContent.trim().slice(0, 60));
  }
  return found;
}
"""

#: Code that has to be scrolled, printed text of up to 100 columns likewise, and empty formulas.
CUT = """
() => {
  const found = [];
  for (const code of document.querySelectorAll("article pre > code")) {
    const columns = Math.max(...code.textContent.split("\\n").map(line => line.length));
    const boxes = [code, code.parentElement];
    const printed = code.closest(".language-text");
    const fits = window.innerWidth > 1000 && columns <= 100;
    if ((fits || !printed) && boxes.some(box => box.scrollWidth > box.clientWidth))
      found.push(`code of ${columns} columns is cut: ` + code.textContent.trim().slice(0, 60));
  }
  for (const math of document.querySelectorAll("math"))
    if (!math.getBoundingClientRect().height) found.push("an empty formula");
  return found;
}
"""


def complaints(browser, address, path):
    """What is wrong with a page."""
    found = []
    page = window(browser, DESKTOP, "light")

    def asked(request):
        if not request.url.startswith((address, "data:", "blob:")):
            found.append(f"a request to another host: {request.url}")

    def answered(response):
        if response.status >= 400:
            found.append(f"{response.status}: {response.url}")

    page.on("request", asked)
    page.on("response", answered)
    page.on("requestfailed", lambda request: found.append(f"a failed request: {request.url}"))
    page.on("console", lambda message: found.append(f"the console: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"an error: {error}"))
    page.goto(address + path)
    found += page.evaluate(TEXTS)
    found += page.evaluate(CUT)
    found += page.evaluate(WIDTHS)
    found += page.evaluate(IMAGES, "light")
    page.emulate_media(color_scheme="dark")
    for _ in range(10):  # A script does it, a little later.
        if not (dark := page.evaluate(IMAGES, "dark")):
            break
        page.wait_for_timeout(100)
    found += dark
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    found += page.evaluate(WIDTHS)
    found += page.evaluate(CUT)
    page.context.close()
    return found


def test_all_pages(browser, serve, site):
    address = serve(site)
    pages = sorted(
        path.relative_to(site).as_posix().removesuffix("index.html")
        for path in site.rglob("*.html")
    )
    assert {"404.html", *SHOWN} <= set(pages)
    found = {path: complaints(browser, address, path) for path in pages}
    # The server's own answer for what does not exist is not looked at.
    assert {path: what for path, what in found.items() if what} == {}


WIDE = "<pre><code>" + "x" * 90 + "</code></pre>"
PAIR = '<img src="a-light.svg#only-light"><img src="a-dark.svg#only-dark">'
STYLE = """<style>
  pre { overflow-x: auto }
  img[src$="#only-dark"] { display: none }
  @media (prefers-color-scheme: dark) {
    img[src$="#only-dark"] { display: inline }
    img[src$="#only-light"] { display: none }
  }
</style>"""


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<p>Right: <code>$x$ \\[</code> <math><mi>x</mi></math>, $5, C:\\a." + PAIR, None),
        (f"<div class='language-text'>{WIDE}</div>", None),
        (WIDE, "code of 90 columns is cut"),  # On the phone.
        (r"<p>\[ x \]", "a raw formula"),
        (r"<p>of \(x\)", "a raw formula"),
        (r"<p>of $x_1$", "a raw formula"),
        ("<p>$$<br>x", "a raw formula"),
        (r"<p>\alpha", "a raw formula"),
        ("<p>&gt;&gt;&gt; 1", "an example outside of code"),
        ("<blockquote><blockquote><blockquote><p>1 + 1", "an example outside of code"),
        ('<script src="https://example.org/a.js"></script>', "another host"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "another host"),
        ('<img src="https://example.org/a.png">', "another host"),
        ("<style>p { background: url(nothing.png) }</style><p>a", "404: "),
        ('<img src="nothing.png">', "a broken image"),
        ('<img src="text.png">', "a broken image"),
        ('<img src="a-light.svg#only-light">', "an image of one theme alone"),
        (PAIR + "<style>img { display: inline !important }</style>", "an image that is of light"),
        (PAIR + "<style>img { display: none !important }</style>", "an image that is of dark"),
        ("<script>console.warn('!')</script>", "the console: !"),
        ("<script>nothing()</script>", "an error: "),
        ('<div style="width: 1500px">a</div>', "the page scrolls sideways"),
        ('<div style="width: 500px">a</div>', "<div> is wider than 390"),
        (
            '<style>body { overflow-x: clip }</style><div style="width: 500px">a</div>',
            "<div> is wider than 390",
        ),
        (
            f"<div class='language-text' style='width: 300px'>{WIDE}</div>",
            "code of 90 columns is cut",
        ),
        ("<math></math>", "an empty formula"),
    ],
)
def test_each_complaint_is_made(browser, serve, tmp_path, body, complaint):
    page = "<!doctype html><link rel='icon' href='data:,'>" + STYLE
    (tmp_path / "page.html").write_text(f"{page}<body><article>{body}</article>")
    (tmp_path / "text.png").write_text("no image")
    for theme in ("light", "dark"):
        (tmp_path / f"a-{theme}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
        )
    found = complaints(browser, serve(tmp_path), "page.html")
    if complaint is None:
        assert found == []
    else:
        assert any(complaint in what for what in found), found


def test_functions_have_formulas(site):
    """Markdown takes the backslashes of a formula that nothing converts: it looks like text."""
    for name, function in jaxact.ACTIVATIONS.items():
        page = (site / "functions" / name / "index.html").read_text("utf-8")
        # Of the value and of the slope; the page of a second name has none.
        assert (page.count("<math") >= 2) == (function.__name__ == name), name


def test_the_search_finds_a_function(browser, serve, site):
    page = window(browser, DESKTOP, "light")
    page.goto(serve(site))
    page.locator(".md-search__input").fill("leaky_relu")
    found = page.locator(".md-search-result__link[href*='/functions/leaky_relu/']").first
    found.wait_for(state="attached")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pictures(browser, serve, site, size, scheme, tmp_path):
    address = serve(site)
    for path in SHOWN:
        page = window(browser, size, scheme)
        page.goto(address + path)
        name = path.strip("/").replace("/", "-") or "index"
        file = chromium.screenshots(tmp_path) / f"{name}-{size[0]}-{scheme}.png"
        page.screenshot(path=file)
        page.context.close()
        pixels = np.asarray(Image.open(file).convert("L"), float)
        assert (np.median(pixels) > 200) == (scheme == "light"), file.name
        assert pixels.std() > 20, file.name
