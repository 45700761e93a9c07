"""The process around the code: clocks, threads, forks, logs, URLs and the state of outages."""
