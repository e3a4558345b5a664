//! Histograms of batches, filled where batches are written.

/// Histograms of batches.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds from sending a batch to knowing that it is in the standby.
    pub txn_seconds: prometheus::Histogram,
    /// Operations in a batch.
    pub batch_ops: prometheus::Histogram,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If the names are taken.
    pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let options = prometheus::HistogramOpts::new(name, help).buckets(buckets);
            let histogram = prometheus::Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        Ok(Self {
            txn_seconds: histogram(
                "etcd_syncer_standby_txn_seconds",
                "Time from sending a batch to knowing that the standby holds it.",
                prometheus::exponential_buckets(0.001, 2.0, 14)?,
            )?,
            batch_ops: histogram(
                "etcd_syncer_batch_ops",
                "Operations in a batch.",
                prometheus::exponential_buckets(1.0, 2.0, 13)?,
            )?,
        })
    }
}
