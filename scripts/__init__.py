"""Development scripts: calibration of the statistics, the table of languages, a test server."""
