//! Parquet files: the records of a run that is over, and tasks that others wrote.

use std::{fs::File, io::Write};

use arrow_schema::SchemaRef;
use envmill_protocol::Trajectory;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    file::{
        properties::WriterProperties,
        reader::{FileReader as _, SerializedFileReader},
    },
};

use crate::{FormatError, decode, encode, error::guarded, schema};

/// So many bytes make a row group, as the writer counts them before they are compressed: the most
/// that a reader must hold, and what is lost with a damaged one.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// How many records are read at a time.
const READ_ROWS: usize = 256;

/// Writes batches of records as one Parquet file, compressed with Zstandard, and gives back how many
/// records there were and the target.
///
/// # Errors
///
/// A batch is an error, or the target does not take what is written.
pub fn write_parquet<W: Write + Send>(
    target: W,
    batches: impl IntoIterator<Item = Result<Vec<Trajectory>, FormatError>>,
) -> Result<(u64, W), FormatError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("envmill ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(target, schema(), Some(properties))?;
    let mut count = 0;
    for batch in batches {
        let records = batch?;
        count += records.len() as u64;
        writer.write(&encode(&records)?)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush()?;
        }
    }
    Ok((count, writer.into_inner()?))
}

/// Reads the records of a Parquet file in batches; ends with an error at the first damage.
pub struct ParquetReader {
    reader: Option<ParquetRecordBatchReader>,
    /// The file's schema: the batches' own lacks what it says of itself, its version.
    schema: SchemaRef,
}

impl ParquetReader {
    /// Reads from `file`.
    ///
    /// # Errors
    ///
    /// It is no Parquet file, or one that was not finished.
    pub fn new(file: File) -> Result<Self, FormatError> {
        guarded(|| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
            let schema = SchemaRef::clone(builder.schema());
            let reader = builder.with_batch_size(READ_ROWS).build()?;
            Ok(Self { reader: Some(reader), schema })
        })
    }
}

impl Iterator for ParquetReader {
    type Item = Result<Vec<Trajectory>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let batch = guarded(|| reader.next().transpose().map_err(FormatError::from)).transpose();
        let schema = &self.schema;
        let records = batch.map(|batch| decode(&batch?.with_schema(SchemaRef::clone(schema))?));
        if !matches!(records, Some(Ok(_))) {
            self.reader = None;
        }
        records
    }
}

/// The rows of any Parquet file, each as the text of one JSON object.
///
/// # Errors
///
/// It is no Parquet file, is damaged, or is compressed by what is not built in (Snappy and Zstandard
/// are).
pub fn parquet_rows(file: File) -> Result<Vec<String>, FormatError> {
    guarded(|| {
        let reader = SerializedFileReader::new(file)?;
        let rows = reader.get_row_iter(None)?;
        rows.map(|row| Ok(row?.to_json_value().to_string())).collect()
    })
}
