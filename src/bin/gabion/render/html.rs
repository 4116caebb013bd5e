//! A page of HTML that needs nothing but itself.

use std::fmt::Write as _;

/// The page so far. Whatever is added as text is escaped.
#[derive(Debug)]
pub(crate) struct Page(String);

/// What the page looks like, in the colours of day and night.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --soft: #59636e; --line: #d1d9e0;
  --card: #f6f8fa; --ok: #1a7f37; --bad: #cf222e; --warn: #9a6700; --blue: #0969da; --fill: #0969da22; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1;
  --line: #3d444d; --card: #151b23; --ok: #3fb950; --bad: #f85149; --warn: #d29922; --blue: #4493f8;
  --fill: #4493f833; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .85rem; font-weight: 600; margin: 0 0 .25rem; color: var(--soft); }
p { margin: .25rem 0; } .soft { color: var(--soft); }
.cards, .plots { display: grid; gap: .75rem; margin: .75rem 0; }
.cards { grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }
.card, .plot { border: 1px solid var(--line); border-radius: 8px; background: var(--card); padding: .75rem; }
.card b { display: block; font-size: 1.1rem; } .card small { color: var(--soft); }
.ok { color: var(--ok); } .bad { color: var(--bad); } .warn { color: var(--warn); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; } .curve { fill: none; stroke: var(--blue); stroke-width: 2; }
.area { fill: var(--fill); } .bar { fill: var(--blue); } .dot { fill: var(--blue); }
.is-ok { fill: var(--ok); } .is-bad { fill: var(--bad); } .is-warn { fill: var(--warn); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.t { white-space: nowrap; } td.m { min-width: 16rem; overflow-wrap: anywhere; }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; }
";

impl Page {
    /// An empty page with this title.
    pub(crate) fn new(title: &str) -> Self {
        let mut page = Self(String::new());
        // Nothing is loaded and no script runs, whatever text got in.
        page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ");
        page.raw("style-src 'unsafe-inline'\">\n");
        page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.raw("<title>");
        page.text(title);
        page.raw("</title>\n<style>");
        page.raw(STYLE);
        page.raw("</style>\n</head>\n<body>\n");
        page
    }

    /// Adds markup. Only what the program itself says.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Adds text, whatever is in it.
    pub(crate) fn text(&mut self, text: &str) {
        self.0.push_str(&escaped(text));
    }

    /// Adds an element with text in it.
    pub(crate) fn element(&mut self, name: &str, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        // Writing to a text cannot fail.
        let _ = write!(self.0, "<{name}{class}>{}</{name}>", escaped(text));
    }

    /// A row of a table; cells have a class and a text.
    pub(crate) fn row(&mut self, cell: &str, cells: &[(&str, &str)]) {
        self.raw("<tr>");
        for (class, text) in cells {
            self.element(cell, class, text);
        }
        self.raw("</tr>\n");
    }

    /// The whole page.
    pub(crate) fn finish(mut self) -> String {
        self.raw("</body>\n</html>\n");
        self.0
    }
}

/// Text as it can stand in an element or between quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let mut page = Page::new("<script>");
        page.element("p", "", "a<b> & \"c\" 'd' \u{1b}[2J");
        let page = page.finish();
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains('\u{1b}'));
        assert!(page.contains("a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; \u{fffd}[2J"));
    }
}
