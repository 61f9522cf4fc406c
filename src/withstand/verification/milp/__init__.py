"""Linear and mixed-integer linear programs about networks, solved by HiGHS (Huangfu and Hall 2018,
doi:10.1007/s12532-017-0130-5)."""
