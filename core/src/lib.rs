//! Words and decisions of Tidegate: units, ids, the catalogues of signals, metrics and log fields, series, forecasts, policies, plans.
//!
//! Pure: no clock, file, socket, thread, environment, log call or unseeded randomness, and no dependency on another
//! member of the workspace. `now` is always an argument.

pub mod fields;
pub mod forecast;
pub mod histogram;
pub mod ids;
pub mod metrics;
pub mod sample;
pub mod series;
pub mod signals;
pub mod time;
pub mod units;

pub use fields::{Field, Mapping};
pub use forecast::{Forecast, LEVELS, Quantiles, Score, Standing};
pub use histogram::Histogram;
pub use ids::{Role, WorkloadId};
pub use metrics::{Family, Kind, Label, Metric};
pub use sample::{Sample, Subject};
pub use series::Series;
pub use signals::{Scope, Signal};
pub use time::{Span, Timestamp};
pub use units::{Ratio, Unit};
