//! Small dense linear algebra: the few equations that the models need, of at most some dozens of unknowns.

/// Least squares of `target ≈ row · x`; `None` when the rows do not determine `x`.
pub(crate) fn solve(rows: impl Iterator<Item = (Vec<f64>, f64)>) -> Option<Vec<f64>> {
    let (mut gram, mut right): (Vec<Vec<f64>>, Vec<f64>) = (Vec::new(), Vec::new());
    for (row, target) in rows {
        if gram.is_empty() {
            gram = vec![vec![0.0; row.len()]; row.len()];
            right = vec![0.0; row.len()];
        }
        for (i, a) in row.iter().enumerate() {
            right[i] += a * target;
            row.iter().enumerate().for_each(|(j, b)| gram[i][j] += a * b);
        }
    }
    let lower = cholesky(&gram)?;
    Some(backward(&lower, &forward(&lower, &right)))
}

/// The lower factor L of a symmetric positive definite matrix, L·Lᵀ; `None` when it is not one.
pub(crate) fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    let mut lower = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
            let rest = matrix[i][j] - known;
            if i != j {
                lower[i][j] = rest / lower[j][j];
            } else if rest > 1e-12 * matrix[i][i] && rest.is_finite() {
                lower[i][i] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    (n > 0).then_some(lower)
}

/// Solves L·x = b.
pub(crate) fn forward(lower: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x = Vec::with_capacity(b.len());
    for (row, b) in lower.iter().zip(b) {
        let known: f64 = row.iter().zip(&x).map(|(l, x)| l * x).sum();
        x.push((b - known) / row[x.len()]);
    }
    x
}

fn backward(lower: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    for i in (0..b.len()).rev() {
        let known: f64 = (i + 1..b.len()).map(|k| lower[k][i] * x[k]).sum();
        x[i] = (b[i] - known) / lower[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_a_line_worked_by_hand() {
        // Points (0, 1), (1, 3), (2, 4): slope 1.5, intercept 7/6.
        let rows = [(0.0, 1.0), (1.0, 3.0), (2.0, 4.0)].map(|(x, y)| (vec![1.0, x], y));
        let x = solve(rows.into_iter()).unwrap();
        assert!((x[0] - 7.0 / 6.0).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12);
        assert_eq!(solve([(vec![1.0, 1.0], 2.0)].into_iter()), None);
        assert_eq!(solve(std::iter::empty()), None);
    }
}
