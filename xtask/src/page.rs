//! Tables that a verb measures and writes into a page of `docs/`, between two marks: `<!-- kernels -->` and `<!-- /kernels -->`,
//! or `<!-- bench:gears -->` and `<!-- /bench -->`.

use anyhow::{Context, Result};

use crate::root;

/// What stands between the marks of this name.
pub(crate) fn between(page: &str, name: &str) -> Result<String> {
    Ok(parts(page, name)?[1].clone())
}

/// Puts a table between the marks of this name.
pub(crate) fn put(page: &str, name: &str, table: &str) -> Result<()> {
    let [before, _, after] = parts(page, name)?;
    let text = format!("{before}{}\n{after}", table.trim_end());
    std::fs::write(root().join(page), text).with_context(|| page.to_owned())
}

/// A page up to the first mark and with it, what stands between the marks, and the rest from the second mark on.
fn parts(page: &str, name: &str) -> Result<[String; 3]> {
    let text = std::fs::read_to_string(root().join(page)).with_context(|| page.to_owned())?;
    let kind = name.split(':').next().unwrap_or(name);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{kind} -->"));
    let begins = text.find(&begin).with_context(|| format!("{page} has no mark `{name}`"))? + begin.len();
    let length = text[begins..].find(&end).with_context(|| format!("{page}: the mark `{name}` has no end"))?;
    let (before, rest) = text.split_at(begins);
    let (table, after) = rest.split_at(length);
    Ok([before, table, after].map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_have_the_tables() -> Result<()> {
        for (page, name) in [
            ("docs/platforms.md", "kernels"),
            ("docs/platforms.md", "containers"),
            ("docs/platforms.md", "systemd"),
            ("docs/performance.md", "bench:cost"),
            ("README.md", "bench:peers-short"),
        ] {
            let table = between(page, name)?;
            assert!(table.contains("\n|--") && !table.contains("<!--"), "{page} {name}: {table}");
            // What is put where it stands changes nothing.
            let before = std::fs::read_to_string(root().join(page))?;
            put(page, name, &table)?;
            assert_eq!(std::fs::read_to_string(root().join(page))?, before, "{page} {name}");
        }
        assert!(between("README.md", "kernels").is_err());
        Ok(())
    }
}
