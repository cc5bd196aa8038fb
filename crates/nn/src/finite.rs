//! Numbers that are NaN or infinite, and whose they are.

use tensor_ops::{Scalar, Tensor, all_finite};

use crate::{Error, Parameter, Result};

/// Refuses numbers that are not finite. `what` names them.
///
/// # Errors
/// [`Error::NotFinite`] with the first of them.
pub fn check_finite<T: Scalar>(numbers: &[T], what: impl FnOnce() -> String) -> Result<()> {
    if all_finite(numbers) {
        return Ok(());
    }
    let value = numbers.iter().find(|x| !x.is_finite()).map_or(f64::NAN, |x| x.as_f64());
    Err(Error::NotFinite { what: what(), value })
}

/// Refuses parameters that are not finite. `network` stands before the tensor's name.
///
/// # Errors
/// [`Error::NotFinite`] with the first of them.
pub fn check_parameters<T: Scalar>(network: &str, parameters: &[Parameter<T>]) -> Result<()> {
    parameters.iter().try_for_each(|parameter| check_parameter(network, parameter))
}

/// Refuses parameters that are not finite after an update by gradients. The error names the first whose gradient is finite,
/// since the others may follow from it, else the first gradient that is not.
pub(crate) fn check_update<T: Scalar>(
    network: &str,
    parameters: &[Parameter<T>],
    gradients: &[Tensor<T>],
) -> Result<()> {
    let pairs = parameters.iter().zip(gradients);
    let of_gradient = |(parameter, gradient): (&Parameter<T>, &Tensor<T>)| {
        check_finite(gradient.data(), || format!("{network}.{}'s gradient", parameter.key()))
    };
    pairs
        .clone()
        .filter(|&pair| of_gradient(pair).is_ok())
        .try_for_each(|(parameter, _)| check_parameter(network, parameter))?;
    pairs.into_iter().try_for_each(of_gradient)?;
    check_parameters(network, parameters)
}

fn check_parameter<T: Scalar>(network: &str, parameter: &Parameter<T>) -> Result<()> {
    check_finite(parameter.value.data(), || format!("{network}.{}", parameter.key()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_overflows_is_no_number_that_is_not_finite() {
        let mut numbers = [f32::MAX; 300];
        assert_eq!(check_finite(&numbers, String::new), Ok(()));
        numbers[299] = f32::NEG_INFINITY;
        let error = check_finite(&numbers, || "the last".to_owned()).unwrap_err().to_string();
        assert_eq!(error, "the last is -inf: expected a finite number");
    }
}
