"""Sessions on a terminal: tables, trees and words, drawn with rich; whatever came from spans is shown as text."""
