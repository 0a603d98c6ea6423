//! The service's messages as plain Python objects, and back.
//!
//! Their fields are those of `protocol/proto`, found by its descriptors: there is no second list of them
//! here. Fields of bytes are JSON, and are given as what it says.

use std::sync::OnceLock;

use bytes::Bytes;
use envmill_client::wire;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage as _, Value,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyList, PyMapping, PyString},
};

use crate::{errors::engine_error, json};

/// How alike two names have to be for one to be meant by the other.
const LIKE: f64 = 0.6;

/// A message of which nothing but its name is known here.
pub(crate) fn dynamic(name: &str, message: &impl Message) -> PyResult<DynamicMessage> {
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic.transcode_from(message).map_err(engine_error)?;
    Ok(dynamic)
}

/// The message that a mapping stands for. What is `None` is as good as not there.
pub(crate) fn read<M: Message + Default>(
    name: &str,
    path: &str,
    object: &Bound<'_, PyAny>,
) -> PyResult<M> {
    message(&descriptor(name)?, path, object)?.transcode_to().map_err(engine_error)
}

fn descriptor(name: &str) -> PyResult<MessageDescriptor> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(wire::DESCRIPTORS).ok());
    let found = pool.as_ref().and_then(|it| it.get_message_by_name(&format!("envmill.v1.{name}")));
    found.ok_or_else(|| engine_error(format!("there is no message {name}")))
}

fn wrong(path: &str, problem: &str) -> PyErr {
    PyValueError::new_err(format!("{path}: {problem}"))
}

/// The number that stands for a word of the enumeration `name` of a message's field.
pub(crate) fn word(
    message: &str,
    field: &str,
    path: &str,
    object: &Bound<'_, PyAny>,
) -> PyResult<i32> {
    let field = descriptor(message)?.get_field_by_name(field);
    match field.map(|field| field.kind()) {
        Some(Kind::Enum(of)) => enumerated(&of, path, object),
        _ => Err(engine_error(format!("{message} has no such field"))),
    }
}

fn message(
    of: &MessageDescriptor,
    path: &str,
    object: &Bound<'_, PyAny>,
) -> PyResult<DynamicMessage> {
    let mut message = DynamicMessage::new(of.clone());
    if let (Ok(word), true) = (object.cast::<PyString>(), is_choice(of)) {
        let field = known(of, path, &word.to_cow()?)?;
        let is_empty = matches!(field.kind(), Kind::Message(of) if of.fields().next().is_none());
        if !is_empty {
            let name = field.name();
            return Err(wrong(path, &format!("'{name}' needs a value: {{'{name}': ...}}")));
        }
        message.set_field(&field, Value::default_value_for_field(&field));
        return Ok(message);
    }
    let Ok(mapping) = object.cast::<PyMapping>() else {
        return Err(wrong(path, &format!("a dict is wanted, not {}", object.repr()?)));
    };
    for item in mapping.items()? {
        let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let name = name.str()?;
        let field = known(of, path, &name.to_cow()?)?;
        if value.is_none() {
            continue;
        }
        let others =
            field.containing_oneof().into_iter().flat_map(|it| it.fields().collect::<Vec<_>>());
        if let Some(other) = others.into_iter().find(|other| message.has_field(other)) {
            let (one, other) = (other.name(), field.name());
            return Err(wrong(path, &format!("either '{one}' or '{other}', not both")));
        }
        let path = format!("{path}.{}", field.name());
        let value =
            if field.is_list() { list(&field, &path, &value) } else { one(&field, &path, &value) };
        message.set_field(&field, value?);
    }
    Ok(message)
}

/// Whether all that it says is which of several it is.
fn is_choice(of: &MessageDescriptor) -> bool {
    let chosen =
        |field: &FieldDescriptor| field.containing_oneof().is_some_and(|it| !it.is_synthetic());
    of.fields().len() > 0 && of.fields().all(|field| chosen(&field))
}

fn known(of: &MessageDescriptor, path: &str, name: &str) -> PyResult<FieldDescriptor> {
    if let Some(field) = of.get_field_by_name(name) {
        return Ok(field);
    }
    let names: Vec<_> = of.fields().map(|field| field.name().to_owned()).collect();
    Err(unknown(path, name, &names))
}

fn unknown(path: &str, name: &str, names: &[String]) -> PyErr {
    let likeness = |known: &String| strsim::normalized_damerau_levenshtein(name, known);
    let nearest = names
        .iter()
        .map(|known| (likeness(known), known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let hint = match nearest {
        Some((_, nearest)) => format!("did you mean '{nearest}'?"),
        None => format!("there are {}", names.join(", ")),
    };
    wrong(path, &format!("there is no '{name}'; {hint}"))
}

fn list(field: &FieldDescriptor, path: &str, object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let each = |(number, item): (usize, PyResult<Bound<'_, PyAny>>)| {
        one(field, &format!("{path}[{number}]"), &item?)
    };
    let items = object.try_iter().map_err(|_| wrong(path, "a list is wanted"))?;
    Ok(Value::List(items.enumerate().map(each).collect::<PyResult<_>>()?))
}

fn one(field: &FieldDescriptor, path: &str, object: &Bound<'_, PyAny>) -> PyResult<Value> {
    let problem = |what: &str| {
        let given = object.repr().map_or_else(|_| "this".into(), |it| it.to_string());
        wrong(path, &format!("{what} is wanted, not {given}"))
    };
    let is_bool = object.is_instance_of::<PyBool>();
    Ok(match field.kind() {
        Kind::Bool => Value::Bool(object.extract().map_err(|_| problem("True or False"))?),
        Kind::String => Value::String(object.extract().map_err(|_| problem("a string"))?),
        Kind::Bytes => Value::Bytes(json::text(object).map_err(|_| problem("JSON"))?),
        Kind::Enum(of) => Value::EnumNumber(enumerated(&of, path, object)?),
        Kind::Message(of) => Value::Message(message(&of, path, object)?),
        _ if is_bool => return Err(problem("a number")),
        Kind::Uint32 => {
            Value::U32(object.extract().map_err(|_| problem("a number from 0 to 2**32 - 1"))?)
        }
        Kind::Uint64 => {
            Value::U64(object.extract().map_err(|_| problem("a number from 0 to 2**64 - 1"))?)
        }
        Kind::Int32 => Value::I32(object.extract().map_err(|_| problem("a number of 32 bits"))?),
        Kind::Double => Value::F64(object.extract().map_err(|_| problem("a number"))?),
        kind => return Err(engine_error(format!("{path}: {kind:?} cannot be given"))),
    })
}

fn enumerated(of: &EnumDescriptor, path: &str, object: &Bound<'_, PyAny>) -> PyResult<i32> {
    let words: Vec<_> = of.values().map(|value| short(of, value.name())).collect();
    let Ok(given) = object.cast::<PyString>() else {
        return Err(wrong(path, &format!("one of {} is wanted", words.join(", "))));
    };
    let given = given.to_cow()?;
    let found = of.values().find(|value| short(of, value.name()) == given);
    found.map(|value| value.number()).ok_or_else(|| unknown(path, &given, &words))
}

/// A value's name without that of its enumeration: `GROUP_FILTER_ZERO_VARIANCE` is `zero_variance`.
fn short(of: &EnumDescriptor, value: &str) -> String {
    let mut prefix = String::new();
    for (place, letter) in of.name().char_indices() {
        if letter.is_uppercase() && place > 0 {
            prefix.push('_');
        }
        prefix.extend(letter.to_uppercase());
    }
    prefix.push('_');
    value.strip_prefix(&prefix).unwrap_or(value).to_lowercase()
}

/// A message as a dict with all of its fields; one that only says which of several it is, as that.
pub(crate) fn plain(py: Python<'_>, message: &DynamicMessage) -> PyResult<Py<PyAny>> {
    let of = message.descriptor();
    if is_choice(&of) {
        let Some((field, value)) = message.fields().next() else { return Ok(py.None()) };
        let value = one_plain(py, &field.kind(), value)?;
        if matches!(field.kind(), Kind::Message(_)) && value.bind(py).is_empty()? {
            return Ok(PyString::new(py, field.name()).into_any().unbind());
        }
        let dict = PyDict::new(py);
        dict.set_item(field.name(), value)?;
        return Ok(dict.into_any().unbind());
    }
    let dict = PyDict::new(py);
    for field in of.fields() {
        let is_there = !field.supports_presence() || message.has_field(&field);
        let value = message.get_field(&field);
        let value = if is_there { one_plain(py, &field.kind(), &value)? } else { py.None() };
        dict.set_item(field.name(), value)?;
    }
    Ok(dict.into_any().unbind())
}

fn one_plain(py: Python<'_>, kind: &Kind, value: &Value) -> PyResult<Py<PyAny>> {
    Ok(match value {
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any().unbind(),
        Value::I32(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::I64(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::U32(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::U64(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::F32(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::F64(value) => value.into_pyobject(py)?.into_any().unbind(),
        Value::String(value) => PyString::new(py, value).into_any().unbind(),
        Value::Bytes(value) => json_or_bytes(py, value)?,
        Value::EnumNumber(number) => match kind {
            Kind::Enum(of) if of.get_value(*number).is_some() => {
                let name = of.get_value(*number).map(|it| short(of, it.name()));
                name.into_pyobject(py)?.unbind()
            }
            _ => number.into_pyobject(py)?.into_any().unbind(),
        },
        Value::Message(message) => plain(py, message)?,
        Value::List(items) => {
            let items = items.iter().map(|item| one_plain(py, kind, item));
            PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                let MapKey::String(key) = key else { continue };
                dict.set_item(key, one_plain(py, kind, value)?)?;
            }
            dict.into_any().unbind()
        }
    })
}

fn json_or_bytes(py: Python<'_>, text: &Bytes) -> PyResult<Py<PyAny>> {
    json::parsed(py, text).or_else(|_| Ok(PyBytes::new(py, text).into_any().unbind()))
}
