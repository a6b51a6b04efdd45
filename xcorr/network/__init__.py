"""Joins the station list with the source: the stations and times that have data, and the pairs."""
