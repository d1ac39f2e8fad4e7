"""From predictions to a comparison: aligned scores, gains, robustness checks, claims."""
