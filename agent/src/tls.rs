//! TLS for what this crate asks of others.

use std::sync::Once;

/// Installs the process's TLS provider, unless the program has done so.
pub(crate) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
}
