"""The vocabulary: intervals, markets, time ranges, cells, table declarations and errors. No I/O."""
