//! Learning-rate schedules: a factor on the learning rate, by the progress of training.
//!
//! With p the progress since the warm-up, from 0 to 1, and e the end:
//!
//! | shape | factor |
//! | --- | --- |
//! | `constant` | 1 |
//! | `linear` | 1 - p + e p |
//! | `cosine` | e + (1 - e) (1 + cos(pi p)) / 2 |
//! | `exponential` | e^p |
//!
//! During the warm-up, the first share of training, it rises linearly from 0 to 1. References: Loshchilov and Hutter,
//! 2017 (cosine); Goyal et al., 2017 (warm-up).

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::check_setting;

/// How the learning rate changes while training goes on.
///
/// ```
/// use nn::{Schedule, ScheduleShape};
///
/// let schedule = Schedule { shape: ScheduleShape::Linear, end: 0.1, warm_up: 0.2 };
/// assert_eq!(schedule.factor(0.1), 0.5);
/// assert_eq!(schedule.factor(0.2), 1.0);
/// assert_eq!(schedule.factor(1.0), 0.1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The way from 1 to the end.
    pub shape: ScheduleShape,
    /// The factor at the end of training, from 0 to 1, above 0 for [`ScheduleShape::Exponential`]. Not read by
    /// [`ScheduleShape::Constant`].
    pub end: f64,
    /// The share of training that is warm-up, from 0 to 1.
    pub warm_up: f64,
}

/// The way of a factor from 1 to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleShape {
    /// It stays 1.
    #[default]
    Constant,
    /// Straight.
    Linear,
    /// Half a cosine: slow, fast, slow.
    Cosine,
    /// By the same ratio in the same time.
    Exponential,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { shape: ScheduleShape::Constant, end: 0.01, warm_up: 0.0 }
    }
}

impl Schedule {
    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting), which names the first of them.
    pub fn check(&self) -> Result<()> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        check_setting(share(self.warm_up), "schedule", "warm_up", "a number from 0 to 1", self.warm_up)?;
        check_setting(share(self.end), "schedule", "end", "a number from 0 to 1", self.end)?;
        let falls_to_0 = self.shape == ScheduleShape::Exponential && self.end == 0.0;
        check_setting(
            !falls_to_0,
            "schedule",
            "end",
            "a number above 0, where the shape is exponential",
            self.end,
        )
    }

    /// The factor on the learning rate after a share of training, from 0 to 1.
    #[must_use]
    pub fn factor(&self, progress: f64) -> f64 {
        if progress < self.warm_up {
            return progress / self.warm_up;
        }
        let rest = 1.0 - self.warm_up;
        let p = if rest > 0.0 { ((progress - self.warm_up) / rest).min(1.0) } else { 1.0 };
        match self.shape {
            ScheduleShape::Constant => 1.0,
            ScheduleShape::Linear => 1.0 - p + self.end * p,
            ScheduleShape::Cosine => {
                self.end + (1.0 - self.end) * (1.0 + (std::f64::consts::PI * p).cos()) / 2.0
            }
            ScheduleShape::Exponential => self.end.powf(p),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_go_from_1_to_the_end() {
        for shape in [ScheduleShape::Linear, ScheduleShape::Cosine, ScheduleShape::Exponential] {
            let schedule = Schedule { shape, end: 0.25, warm_up: 0.0 };
            let factors = [0.0, 0.5, 1.0].map(|progress| schedule.factor(progress));
            let middle = if shape == ScheduleShape::Exponential { 0.5 } else { 0.625 };
            factors.iter().zip([1.0, middle, 0.25]).for_each(|(a, b)| approx::assert_relative_eq!(*a, b));
        }
        let cosine = Schedule { shape: ScheduleShape::Cosine, end: 0.0, warm_up: 0.0 };
        approx::assert_relative_eq!(cosine.factor(1.0 / 3.0), 0.75, max_relative = 1e-12);
    }

    #[test]
    fn a_warm_up_rises_from_0_to_1() {
        let schedule = Schedule { shape: ScheduleShape::Constant, end: 0.5, warm_up: 0.2 };
        assert_eq!([0.0, 0.05, 0.2, 1.0].map(|progress| schedule.factor(progress)), [0.0, 0.25, 1.0, 1.0]);
        assert_eq!(Schedule { warm_up: 1.0, ..schedule }.factor(1.0), 1.0);
        // After it, the way to the end takes the rest.
        let linear = Schedule { shape: ScheduleShape::Linear, ..schedule };
        assert_eq!([0.2, 0.6, 1.0, 2.0].map(|progress| linear.factor(progress)), [1.0, 0.75, 0.5, 0.5]);
        // Training that is warm-up to its end ends where the way does.
        assert_eq!(Schedule { warm_up: 1.0, ..linear }.factor(1.0), 0.5);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let schedule = |shape, end, warm_up| Schedule { shape, end, warm_up }.check();
        assert!(schedule(ScheduleShape::Linear, 0.0, 1.0).is_ok());
        assert!(schedule(ScheduleShape::Linear, -0.1, 0.0).is_err());
        assert!(schedule(ScheduleShape::Cosine, f64::NAN, 0.0).is_err());
        assert!(schedule(ScheduleShape::Constant, 0.5, 1.5).is_err());
        assert!(schedule(ScheduleShape::Exponential, 0.0, 0.0).is_err());
    }
}
