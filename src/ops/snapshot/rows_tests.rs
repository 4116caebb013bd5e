//! Rows are counted wherever the pieces of a dump happen to be cut.

use proptest::prelude::*;

use super::*;
use crate::format::snapshot::Moment;

fn counted(format: &str, text: &str, piece: usize) -> Vec<(String, u64)> {
    let mut counter = RowCounter::for_format(format).unwrap();
    text.as_bytes().chunks(piece).for_each(|piece| counter.push(piece));
    counter.finish().into_iter().collect()
}

#[track_caller]
fn counts(format: &str, text: &str, expected: &[(&str, u64)]) {
    let expected: Vec<(String, u64)> =
        expected.iter().map(|&(name, rows)| (name.to_owned(), rows)).collect();
    for piece in [1, 2, 3, 7, 13, 64, text.len()] {
        assert_eq!(counted(format, text, piece), expected, "pieces of {piece}");
    }
}

#[test]
fn rows_of_copies_are_lines() {
    counts(
        "pg_dump",
        "--\n-- PostgreSQL database dump\n--\n\
         CREATE TABLE public.t (id integer);\nCOPY public.t FROM stdin;\n\
         -- Data for Name: t; Type: TABLE DATA\n--\n\nCOPY public.t (id, word) FROM stdin;\n1\ta\n2\tb\\nc\n\n\\N\n\\.\n\n\
         -- Data for Name: a (b\n--\n\nCOPY \"My \"\"S\"\"\".\"a (b\" (x) FROM stdin;\n\\.\n\
         -- Data for Name: bare\nCOPY public.bare FROM stdin;\nCOPY public.t (id) FROM stdin;\n\\.\n\
         -- PostgreSQL database dump complete\n",
        &[("\"My \"\"S\"\"\".\"a (b\"", 0), ("public.bare", 1), ("public.t", 4)],
    );
}

#[test]
fn rows_of_inserts_are_parentheses_outside_of_quotes() {
    counts(
        "mariadb-dump",
        "-- MariaDB dump 10.19\nINSERT INTO `before` VALUES (1);\n\
         -- Dumping data for table `empty`\n--\nLOCK TABLES `empty` WRITE;\nUNLOCK TABLES;\n\
         -- Dumping data for table `a``b`\n--\nLOCK TABLES `a``b` WRITE;\n\
         INSERT INTO `a``b` VALUES\n(1,'x\\'),(('),\n(2,'a;''(b'),\n(3,0x28);\n\
         INSERT INTO `a``b` (`V(`, `c`) VALUES (4,NULL),(5,'\\\\');\n\
         DELIMITER ;;\nINSERT INTO `a``b` VALUES (7);\nDELIMITER ;\n\
         -- Dumping routines for database 'd'\nINSERT INTO `a``b` VALUES (8);\n",
        &[("a`b", 5), ("empty", 0)],
    );
}

#[test]
fn a_row_longer_than_a_line_may_be_is_one_row() {
    let long = "x".repeat(3 * LINE_LEN);
    let text = format!("-- Data for Name: t\nCOPY public.t (a) FROM stdin;\n{long}\n\\.\n");
    assert_eq!(counted("pg_dump", &text, 1000), [("public.t".to_owned(), 1)]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived_and_cuts_make_no_difference(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "INSERT INTO `", "t`", " VALUES ", "(", ")", "'", "\\", ";", "\n", "DELIMITER ;;",
                "-- Dumping data for table `t`\n", "-- Data for Name: b\n", "COPY a.b FROM stdin;\n", "\\.\n", "\"", "x",
            ]),
            0..60,
        ),
        piece in 1usize..20,
    ) {
        let text = parts.concat();
        for format in ["pg_dump", "mariadb-dump"] {
            prop_assert_eq!(counted(format, &text, piece), counted(format, &text, usize::MAX));
        }
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_the_rest_stays() {
    let stream = |name: &str, tables: usize| StreamRecord {
        name: name.to_owned(),
        started: Moment { seconds: 0, nanos: 0 },
        ended: Moment { seconds: 0, nanos: 0 },
        bytes: 0,
        format: None,
        origin: None,
        rows: Some((0..tables).map(|number| (format!("public.table_{number}"), 1)).collect()),
    };
    let mut streams = [stream("small", 10), stream("large", 20_000)];
    fit(&mut streams);
    assert_eq!(streams[0].rows.as_ref().map(BTreeMap::len), Some(10));
    assert_eq!(streams[1].rows, None);
}
