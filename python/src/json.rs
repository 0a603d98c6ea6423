//! JSON's text as Python objects, and back.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{IntoPyDict as _, PyBytes, PyString},
};

/// JSON's text as a Python object, made when it is first asked for.
pub(crate) struct Lazy(PyOnceLock<Py<PyAny>>);

impl Lazy {
    pub(crate) const fn new() -> Self {
        Self(PyOnceLock::new())
    }

    pub(crate) fn of(&self, py: Python<'_>, text: &[u8]) -> PyResult<Py<PyAny>> {
        self.0.get_or_try_init(py, || parsed(py, text)).map(|object| object.clone_ref(py))
    }
}

/// What a JSON text says; `None` for an empty one.
pub(crate) fn parsed(py: Python<'_>, text: &[u8]) -> PyResult<Py<PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if text.is_empty() {
        return Ok(py.None());
    }
    Ok(LOADS.import(py, "json", "loads")?.call1((PyBytes::new(py, text),))?.unbind())
}

/// The text of what is JSON already (`bytes` or `str`), or becomes JSON.
pub(crate) fn text(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Ok(text) = object.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    let py = object.py();
    let strictly = [("allow_nan", false)].into_py_dict(py)?;
    let text = DUMPS.import(py, "json", "dumps")?.call((object,), Some(&strictly))?;
    Ok(text.extract::<String>()?.into())
}
