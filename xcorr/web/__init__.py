"""The web application: campaigns in a browser, and a web API over the same questions. Nothing is ever written."""
