"""What is asked for and what is there: the station list, the stations and times with data, the pairs."""
