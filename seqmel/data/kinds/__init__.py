"""The kinds of columns, one file each; see `seqmel.data.kinds.base`."""
