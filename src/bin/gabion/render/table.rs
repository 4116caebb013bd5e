//! Columns of text, each as wide as it needs to be.

/// On which side of its column a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows whose columns are aligned.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose columns have these names and sides.
    pub(crate) fn new(columns: &[(&str, Side)]) -> Self {
        Self {
            sides: columns.iter().map(|&(_, side)| side).collect(),
            rows: vec![columns.iter().map(|&(name, _)| name.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, the one with the names first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
            .collect();
        self.rows.iter().map(move |row| {
            let mut line = String::new();
            for ((cell, &side), &wide) in row.iter().zip(&self.sides).zip(&widths) {
                let padding = " ".repeat(wide - width(cell));
                let (before, after) = match side {
                    Side::Left => ("", padding.as_str()),
                    Side::Right => (padding.as_str(), ""),
                };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            line.truncate(line.trim_end().len());
            line
        })
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table =
            Table::new(&[("NAME", Side::Left), ("SIZE", Side::Right), ("", Side::Left)]);
        table.row(["é".to_owned(), "1".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "12345".to_owned(), "x".to_owned()]);
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines, ["NAME     SIZE", "é           1", "longer  12345  x"]);
    }
}
