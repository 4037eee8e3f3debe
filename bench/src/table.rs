//! Markdown tables with aligned columns, readable in a terminal and in a document.

/// Aligns the first column to the left and the others to the right.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(head[column].chars().count()).max(2)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.into_iter().zip(widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| match column {
            0 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        format!("|{}\n", padded.collect::<String>())
    };
    let rules = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => format!("{}|", "-".repeat(width + 2)),
        _ => format!("{}:|", "-".repeat(width + 1)),
    });
    let rule = format!("|{}\n", rules.collect::<String>());
    let body = rows
        .iter()
        .map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    [line(head), rule].into_iter().chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["slow".to_owned(), "9".to_owned()],
            ["très vite".to_owned(), "1,234".to_owned()],
        ];
        let expected = [
            "| way       |    /s |\n",
            "|-----------|------:|\n",
            "| slow      |     9 |\n",
            "| très vite | 1,234 |\n",
        ];
        assert_eq!(table(["way", "/s"], &rows), expected.concat());
    }
}
