//! Numbers of a record as NumPy arrays that share its memory.

use std::{any::Any, sync::Arc};

use envmill_client::wire::layout::element_bytes;
use envmill_protocol::Trajectory;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple},
};

/// Memory, as NumPy's array interface describes it. Whoever looks at it keeps this object, and with it
/// the memory; nobody may write there.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Array {
    address: usize,
    shape: Vec<u64>,
    /// The type of an element, as the interface spells it: `<u4`.
    element: String,
    /// What the memory belongs to. It never changes, and so the memory does not move.
    _keep: Box<dyn Any + Send + Sync>,
}

/// A number that an array may hold.
pub(crate) trait Element {
    const SPELLING: &'static str;
}

/// What stands before a type of several bytes.
const ORDER: char = if cfg!(target_endian = "little") { '<' } else { '>' };

impl Element for u8 {
    const SPELLING: &'static str = "u1";
}

impl Element for u32 {
    const SPELLING: &'static str = "u4";
}

impl Element for f32 {
    const SPELLING: &'static str = "f4";
}

impl Element for f64 {
    const SPELLING: &'static str = "f8";
}

#[pymethods]
impl Array {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        dict.set_item("typestr", &self.element)?;
        // The second says that it is not to be written to.
        dict.set_item("data", (self.address, true))?;
        Ok(dict)
    }
}

/// The elements `of` a record.
pub(crate) fn of_record<'py, T: Element>(
    py: Python<'py>,
    trajectory: &Arc<Trajectory>,
    of: impl FnOnce(&Trajectory) -> &[T],
) -> PyResult<Bound<'py, PyAny>> {
    let elements = of(trajectory);
    let (address, length) = (elements.as_ptr().addr(), elements.len());
    let element = format!("{ORDER}{}", T::SPELLING);
    let _keep = Box::new(Arc::clone(trajectory));
    numpy(py, Array { address, shape: vec![length as u64], element, _keep })
}

/// Numbers that were made for it.
pub(crate) fn of_made<T: Element + Send + Sync + 'static>(
    py: Python<'_>,
    made: Vec<T>,
) -> PyResult<Bound<'_, PyAny>> {
    let (address, length) = (made.as_ptr().addr(), made.len());
    let element = format!("{ORDER}{}", T::SPELLING);
    numpy(py, Array { address, shape: vec![length as u64], element, _keep: Box::new(made) })
}

/// Memory that does not change and does not move while `keep` is there.
pub(crate) struct Memory {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) keep: Box<dyn Any + Send + Sync>,
}

/// Bytes `of` a record as elements of a type that NumPy knows by its name, little-endian.
pub(crate) fn of_bytes<'py>(
    py: Python<'py>,
    trajectory: &Arc<Trajectory>,
    of: impl FnOnce(&Trajectory) -> &[u8],
    dtype: &str,
    shape: &[u64],
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = of(trajectory);
    let keep = Box::new(Arc::clone(trajectory));
    of_memory(py, Memory { address: bytes.as_ptr().addr(), bytes: bytes.len(), keep }, dtype, shape)
}

/// The same of memory.
pub(crate) fn of_memory<'py>(
    py: Python<'py>,
    memory: Memory,
    dtype: &str,
    shape: &[u64],
) -> PyResult<Bound<'py, PyAny>> {
    let (element, size) = match element_bytes(dtype) {
        // What NumPy calls `uint32`, its interface spells `u4`.
        Some(size) => (format!("<{}{size}", &dtype[..1]), size),
        None => asked(py, dtype)?,
    };
    let Memory { address, bytes, keep } = memory;
    let wanted = shape.iter().try_fold(size, |product, length| product.checked_mul(*length));
    if wanted != Some(bytes as u64) {
        return Err(PyValueError::new_err(format!(
            "{bytes} bytes are no array of the type {dtype} and the shape {shape:?}"
        )));
    }
    numpy(py, Array { address, shape: shape.to_vec(), element, _keep: keep })
}

/// How the interface spells a type, and how many bytes an element has: NumPy is asked, which takes some 10 µs.
fn asked(py: Python<'_>, dtype: &str) -> PyResult<(String, u64)> {
    static DTYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let dtype = DTYPE.import(py, "numpy", "dtype")?.call1((dtype,))?;
    let dtype = dtype.call_method1("newbyteorder", ("<",))?;
    Ok((dtype.getattr("str")?.extract()?, dtype.getattr("itemsize")?.extract()?))
}

fn numpy(py: Python<'_>, array: Array) -> PyResult<Bound<'_, PyAny>> {
    static ASARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ASARRAY.import(py, "numpy", "asarray")?.call1((array,))
}
