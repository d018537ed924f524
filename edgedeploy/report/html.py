def html_report(document): return "<html></html>"
