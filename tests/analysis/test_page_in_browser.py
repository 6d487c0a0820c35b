"""The page in headless Chromium: it renders, sorts, has no error, and nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from nmsim_analysis import page, plots

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian's package chromium)"),
]

CLICKS = """<script>
const times = performance.getEntriesByType("resource").length;
document.body.dataset.fetched = times;
const button = document.querySelectorAll("th button")[1];
button.click();
document.body.dataset.first = document.querySelector("tbody tr").cells[0].textContent;
button.click();
document.body.dataset.last = document.querySelector("tbody tr").cells[0].textContent;
document.body.dataset.sort = button.closest("th").getAttribute("aria-sort");
</script>"""


def saved(tmp_path, html):
    path = tmp_path / "report.html"
    path.write_text(html)
    return path.as_uri()


def browse(tmp_path, address, *options):
    """Chromium's output for a page: the final document on stdout, its log on stderr."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", *options]
    return subprocess.run([*command, address], check=True, capture_output=True, text=True, timeout=60)


@pytest.fixture
def html(tmp_path):
    rows = pd.DataFrame({"recipe": ["ste", "dense", "sr_ste"], "seed": [0, 0, 0], "accuracy": [9.0, 80.5, 75.0]})
    columns = [page.Column("recipe", "recipe"), page.Column("accuracy", "accuracy (%)", "{:.1f}", "measured")]
    figure = plots.quality(rows.assign(pattern=["1:4", "dense", "1:4"]), value="accuracy", axis_label="accuracy (%)")
    picture = page.figure(plots.save(figure, tmp_path, "quality", rows), "Quality")
    body = page.table(rows, columns, "Results") + picture
    return page.page("Which recipe?", page.paragraph("This one."), [page.Section("Results", body)])


def test_the_page_sorts_both_ways_without_an_error_or_a_fetch(tmp_path, html):
    done = browse(tmp_path, saved(tmp_path, html.replace("</body>", CLICKS + "</body>")), "--dump-dom")
    seen = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout).group()))
    assert seen == {"fetched": "0", "first": "ste", "last": "dense", "sort": "descending"}
    assert "CONSOLE" not in done.stderr


def test_cells_without_a_value_stay_last_whichever_way_a_column_is_sorted(tmp_path):
    rows = pd.DataFrame({"run": list("abcdefg"), "error": [0.3, float("nan"), 0.1, None, 0.2, float("nan"), 0.4]})
    body = page.table(rows, [page.Column("run", "run"), page.Column("error", "error", "{:.1f}")], "Errors")
    script = """<script>
    const order = () => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent).join("");
    const button = document.querySelectorAll("th button")[1];
    button.click();
    document.body.dataset.up = order();
    button.click();
    document.body.dataset.down = order();
    </script></body>"""
    html = page.page("Q?", "", [page.Section("Errors", body)]).replace("</body>", script)
    done = browse(tmp_path, saved(tmp_path, html), "--dump-dom")
    assert re.search(r'data-up="(\w+)" data-down="(\w+)"', done.stdout).groups() == ("ceagbdf", "gaecbdf")


def test_the_widest_table_of_a_report_fits_the_paper(tmp_path):
    """Between the margins of a sheet of A4, 718 pixels at 96 an inch, under the rules for print."""
    names = {"model": "gpt2-small", "recipe": "mdgf_exponential", "pattern": "1:16", "device": "a100-80gb-sxm"}
    numbers = [
        f"{use} {what}" for use in ("training", "inference") for what in ("step (ms)", "energy (mJ), uncalibrated")
    ]
    numbers += [f"{use}: times dense speed" for use in ("training", "inference")]
    rows = pd.DataFrame([names | dict.fromkeys(numbers, 12345.67) | {"bound by": "memory", "bound": "compute"}] * 3)
    columns = [page.Column(str(key), str(key), source="modelled") for key in rows]
    script = """<script>
    const right = Math.max(...[...document.querySelectorAll("table")].map((t) => t.getBoundingClientRect().right));
    document.body.dataset.beyond = Math.max(0, Math.ceil(right - document.documentElement.clientWidth));
    </script></body>"""
    html = page.page("Q?", "", [page.Section("Wide", page.table(rows, columns, "Wide"))]).replace("</body>", script)
    printed = html.replace("@media print", "@media all")
    done = browse(tmp_path, saved(tmp_path, printed), "--dump-dom", "--window-size=718,1000")
    assert re.search(r'data-beyond="(\d+)"', done.stdout).group(1) == "0"


def test_a_server_is_asked_for_the_page_and_nothing_else(tmp_path, html):
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browse(tmp_path, f"http://127.0.0.1:{server.server_port}/report.html", "--dump-dom")
        server.shutdown()
    assert asked == ["/report.html"]


def opened(folder, runs):
    """Milliseconds until the browser has read a page of so many runs to its end."""
    rows = pd.DataFrame({"run": [f"{i:016x}" for i in range(runs)], "accuracy": range(runs)})
    columns = [page.Column("run", "run"), page.Column("accuracy", "accuracy (%)", "{:.2f}", "measured")]
    html = page.page("Q?", "", [page.Section("Runs", page.table(rows, columns, "Runs"))])
    timing = "<script>document.body.dataset.ms = performance.now();</script></body>"
    folder.mkdir()
    done = browse(folder, saved(folder, html.replace("</body>", timing)), "--dump-dom")
    return float(re.search(r'data-ms="([\d.]+)"', done.stdout).group(1))


def test_the_time_to_open_grows_no_faster_than_the_runs(tmp_path):
    few, many = (min(opened(tmp_path / f"{runs}-{turn}", runs) for turn in range(2)) for runs in (200, 2000))
    assert many < 10 * few
