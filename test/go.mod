module github.com/heliograph/heliograph/test

go 1.26.0

require github.com/heliograph/heliograph v0.0.0

replace github.com/heliograph/heliograph => ../
