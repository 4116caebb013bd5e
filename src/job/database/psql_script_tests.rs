//! Tests of reading a dump as psql does.

use super::*;

const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\n\
    SET standard_conforming_strings = on;\n\
    CREATE FUNCTION public.f(\"begin\" integer, begin integer) RETURNS integer\n    LANGUAGE sql\n\
    BEGIN ATOMIC\n SELECT a AS a;\n SELECT\n  CASE\n   WHEN (a > 1) THEN 2\n   ELSE 1\n  END AS \"case\";\nEND;\n\n\
    CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS $_$ begin\n\\! id\nCOMMIT;\nDO;\n$$ '; end $_$;\n\
    COMMENT ON TABLE t IS 'it''s\n\\! id\nCOMMIT;\n';\n\
    COMMENT ON TABLE \"a\\\n\\! id\" IS E'a\\'\n\\! id\n''\\\\';\n\
    CREATE RULE r AS\n ON INSERT TO u DO ( DELETE FROM u\n  WHERE (u.v = 'a\\'::text);\n SELECT 1;\n);\n\
    /* \\! /*/ \\! */ \\! */ -- \\! id\n\
    COPY public.t (a, \"b\nc\") FROM stdin;\n\\N\t\\\\! id\n\\! id\nCOMMIT;\n'\n\\..\n\\.\n\n\n\
    BEGIN;\n\nSELECT pg_catalog.lo_open('1', 131072);\nCOMMIT;\n\n\
    CREATE INDEX i ON t USING btree (a);\n--\n-- PostgreSQL database dump complete\n--\n\n\
    \\unrestrict KEY\n\n";

fn read(script: PsqlScript, text: &str, step: usize) -> Result<String, String> {
    let mut script = script;
    let mut out = Vec::new();
    let pieces = text.as_bytes().chunks(step);
    let done = script
        .begin(&mut out)
        .and_then(|()| pieces.into_iter().try_for_each(|piece| script.pass(piece, &mut out)))
        .and_then(|()| script.finish(&mut out));
    match done {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(_) => Err(script.refusal.unwrap()),
    }
}

#[test]
fn a_dump_passes_as_it_is_but_for_its_key_and_its_own_transactions() {
    for step in [1, 2, 13, 1 << 20] {
        let out = read(PsqlScript::statement_by_statement(), DUMP, step).unwrap();
        let (first, rest) = out.split_once('\n').unwrap();
        assert!(first.len() == 73 && first.starts_with("\\restrict "), "{first}");
        let expected = DUMP.replace("\\restrict KEY", "").replace("\\unrestrict KEY", "") + "\n";
        assert_eq!(rest, expected);
        let out = read(PsqlScript::all_or_nothing(), DUMP, step).unwrap();
        let (_, rest) = out.split_once('\n').unwrap();
        let expected = expected.replace("\nBEGIN;\n\nSEL", "\n\n\nSEL");
        let expected = expected.replace("131072);\nCOMMIT;\n", "131072);\n\n");
        assert_eq!(rest, format!("BEGIN;\n{expected}COMMIT;\n"));
    }
    let bare = "-- PostgreSQL database dump\nCREATE TABLE t (x int);\n-- PostgreSQL database dump complete\n";
    read(PsqlScript::all_or_nothing(), bare, 5).unwrap();
}

#[test]
fn what_no_dump_holds_is_refused_wherever_it_hides() {
    for hostile in [
        "\\! id\n",
        " \\! id\n",
        "SELECT 1 \\g |id\n",
        "SELECT 1; \\! id\n",
        "\\restrict KEY\n",
        "\\unrestrict other\n",
        "\\unrestrict KEY\n\\! id\n\\restrict KEY\n",
        "\\unrestrict KEY\nSELECT 1;\n\\restrict KEY\n",
        "SELECT 'a\\';\n\\! id\n",
        "SELECT E'a\\\\';\n\\! id\n",
        "SELECT E'a'\n'b\\' \\! id '';\n\\! id\n",
        "SELECT xE'a\\';\n\\! id\n",
        "SELECT $a$ $b$ $a$;\n\\! id\n",
        "SELECT a$b$ FROM c$b$;\n\\! id\n",
        "SELECT $1; $$ \n$$;\n\\! id\n",
        "/* /* */ */ \\! id\n",
        "/*/ */ \\! id\n",
        "-- x\n\\! id\n",
        "COPY t (a) FROM stdin;\n\\.\n\\! id\n",
        "COPY t (a) FROM stdin;\n\\.\r\n\\! id\n",
        "COPY t (a) FROM stdin; \\! id\n",
        "COPY t FROM PROGRAM 'id';\n",
        "copy t FROM '/etc/passwd';\n",
        "COPY t (a) TO PROGRAM 'id';\n",
        "COPY t FROM PROGRAM 'id' -- FROM stdin\n;\n",
        "ALTER/**/SYSTEM SET a = 1;\n",
        "DO $$ BEGIN END $$;\n",
        "do LANGUAGE plpgsql $$ $$;\n",
        "/**/DO $$ $$;\n",
        "LOAD '/tmp/x.so';\n",
        "ALTER  SYSTEM SET a = 1;\n",
        "ALTER /* */ SYSTEM SET a = 1;\n",
        "COMMIT;\n",
        " COMMIT;\n",
        "END;\n",
        "COMMIT AND CHAIN;\n",
        "BEGIN;\nBEGIN;\n",
        "BEGIN;\nCOMMIT;\nCOMMIT;\n",
        "ROLLBACK;\n",
        "SELECT 'x\0';\n",
        "SELECT 'never closed;\n",
    ] {
        let text = DUMP.replace("CREATE INDEX i", &format!("{hostile}CREATE INDEX i"));
        for step in [1, 7, 1 << 20] {
            for script in [PsqlScript::all_or_nothing(), PsqlScript::statement_by_statement()] {
                let out = read(script, &text, step);
                assert!(out.is_err(), "{hostile}: {}", out.unwrap());
            }
        }
    }
}

#[test]
fn old_servers_have_backslashes_in_ordinary_quotes() {
    let text = "SET standard_conforming_strings = off;\nCOMMENT ON TABLE t IS 'a\\'\n\\! id\n';\n";
    read(PsqlScript::all_or_nothing(), text, 3).unwrap();
    let text = text.replace("off", "on");
    read(PsqlScript::all_or_nothing(), &text, 3).unwrap_err();
}
