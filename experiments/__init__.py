"""The papers' claims, one command each; they import the library, never the reverse."""
