//! The driver calls that `nvml-wrapper` has no fitting form of: field values with a scope, without which NVLink's counters are those of
//! link 0 alone, and the ids of an instance, without which an instance's performance monitor cannot be asked.
#![expect(
    unsafe_code,
    reason = "calls into a C library by pointers that `nvml-wrapper` resolved; each call says why it holds"
)]

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED, nvmlValue_t,
    nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE, nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT,
};

/// A value to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// The driver's number for it, in the numbering of the driver that is asked.
    pub(super) id: u32,
    /// What part of the GPU it is of.
    pub(super) scope: Scope,
}

/// What part of a GPU a value is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The GPU; fields that know no parts.
    Whole,
    /// All links together.
    AllLinks,
}

impl Scope {
    const fn id(self) -> u32 {
        match self {
            Self::Whole => 0,
            Self::AllLinks => u32::MAX,
        }
    }
}

/// A value that the driver gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) value: u64,
    /// Whether the driver counts it in 64 bits.
    pub(super) wide: bool,
}

/// Asks for several values in one call. Each has its own outcome, in the order of `fields`.
pub(super) fn field_values(
    device: &Device<'_>,
    fields: &[Field],
) -> Result<Vec<Result<Number, NvmlError>>, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let ask = |field: &Field| nvmlFieldValue_t {
        fieldId: field.id,
        scopeId: field.scope.id(),
        timestamp: 0,
        latencyUsec: 0,
        valueType: nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
        // A driver that leaves an entry alone does not know it: that must not read as a zero.
        nvmlReturn: nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED,
        value: nvmlValue_t { ullVal: 0 },
    };
    let mut values: Vec<_> = fields.iter().map(ask).collect();
    let count = i32::try_from(values.len()).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the handle belongs to the library that the function was resolved from and that `device` keeps open;
    // `values` is as long as `count` says, and the driver keeps no pointer to it.
    nvml_try(unsafe { call(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(values.iter().map(number).collect())
}

#[expect(non_upper_case_globals, reason = "the names are those of nvml.h")]
fn number(value: &nvmlFieldValue_t) -> Result<Number, NvmlError> {
    nvml_try(value.nvmlReturn)?;
    let (raw, kind) = (value.value, value.valueType);
    let refused = || NvmlError::UnexpectedVariant(kind);
    // SAFETY: every member of the union is a plain number of at most eight bytes, all of which were set before the call.
    let (value, wide) = unsafe {
        match kind {
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => (Some(u64::from(raw.uiVal)), false),
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT => (Some(u64::from(raw.usVal)), false),
            nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT => (u64::try_from(raw.siVal).ok(), false),
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG => (Some(raw.ulVal), true),
            nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => (Some(raw.ullVal), true),
            nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG => (u64::try_from(raw.sllVal).ok(), true),
            nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => (whole(raw.dVal), true),
            _ => (None, false),
        }
    };
    value.map(|value| Number { value, wide }).ok_or_else(refused)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within the range")]
fn whole(value: f64) -> Option<u64> {
    (0.0..9e18).contains(&value).then_some(value as u64)
}

/// Id of the GPU instance that an instance's handle belongs to.
pub(super) fn gpu_instance_id(device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle belongs to the library that the function was resolved from; `id` outlives the call.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}

/// Id of the compute instance, within its GPU instance, that an instance's handle belongs to.
pub(super) fn compute_instance_id(device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle belongs to the library that the function was resolved from; `id` outlives the call.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}
