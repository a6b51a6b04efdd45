"""From a source of waveforms to contiguous segments of samples: sources, file formats, station metadata."""
