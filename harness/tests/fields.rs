//! The references of the two file formats are generated from their schemas, so that they cannot go stale.

use limosa::spec;
use serde_json::Value;
use std::{fmt::Write, fs, path::Path};

#[test]
fn the_references_are_up_to_date() {
    for (folder, schema) in [
        ("topologies", schemars::schema_for!(spec::Topology)),
        ("experiments", schemars::schema_for!(spec::Experiment)),
    ] {
        let fresh = page(folder, &schema.to_value());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("FIELDS.md");
        if std::env::var_os("LIMOSA_UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &fresh).unwrap();
        } else {
            assert!(
                fs::read_to_string(&path).unwrap_or_default() == fresh,
                "{folder}/FIELDS.md is out of date\n  hint: LIMOSA_UPDATE_SCHEMAS=1 cargo test -p limosa --test fields"
            );
        }
    }
}

/// The whole reference: the fields of the file, then every type that they mention.
fn page(folder: &str, schema: &Value) -> String {
    let mut text = format!(
        "# Fields of `{folder}/*.yaml`\n\nGenerated from the code by a test; `schema.json` beside this page says the \
         same to editors. A field without a default is required.\n\n{}\n",
        about(schema)
    );
    fields(schema, &mut text);
    let types = schema["$defs"].as_object().unwrap();
    for (name, definition) in types {
        write!(text, "\n## {name}\n\n{}\n", about(definition)).unwrap();
        fields(definition, &mut text);
        values(definition, &mut text);
    }
    text
}

/// A description as one paragraph that is safe in a table.
fn about(of: &Value) -> String {
    let text = of["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn fields(of: &Value, text: &mut String) {
    let Some(properties) = of["properties"].as_object() else { return };
    text.push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    for (name, field) in properties {
        let default = match &field["default"] {
            _ if required(of, name) => String::new(),
            Value::Null => "none".into(),
            Value::Object(_) => "empty".into(),
            Value::Array(items) if items.is_empty() => "empty".into(),
            given => format!("`{}`", given.to_string().trim_matches('"')),
        };
        writeln!(text, "| `{name}` | {} | {default} | {} |", kind(field), about(field)).unwrap();
    }
}

fn required(of: &Value, name: &str) -> bool {
    of["required"].as_array().is_some_and(|all| all.iter().any(|n| n == name))
}

/// The type of a field in words, with links to the types that have a section.
fn kind(of: &Value) -> String {
    if let Some(name) = of["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(all) = of[choice].as_array() {
            let all = all.iter().filter(|one| one["type"] != "null").map(kind);
            return all.collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(constant) = of["const"].as_str() {
        return format!("`{constant}`");
    }
    let name = match &of["type"] {
        Value::Array(types) => {
            types.iter().filter_map(Value::as_str).find(|t| *t != "null").unwrap_or_default()
        }
        name => name.as_str().unwrap_or("any value"),
    };
    match name {
        "array" => format!("list of {}", kind(&of["items"])),
        "object" if of["additionalProperties"].is_object() => {
            format!("map from names to {}", kind(&of["additionalProperties"]))
        }
        "boolean" => "`true` or `false`".into(),
        name => name.into(),
    }
}

/// What an enumeration may be.
fn values(of: &Value, text: &mut String) {
    let named = of["oneOf"].as_array().into_iter().flatten();
    let named: Vec<_> = named.filter(|one| one["const"].is_string()).collect();
    let bare = of["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let bare: Vec<_> = bare.map(|value| format!("`{value}`")).collect();
    if !bare.is_empty() {
        write!(text, "\nOne of {}.\n", bare.join(", ")).unwrap();
    }
    if !named.is_empty() {
        text.push_str("\n| value | meaning |\n|---|---|\n");
    }
    for value in named {
        writeln!(text, "| {} | {} |", kind(value), about(value)).unwrap();
    }
}
