// Command grafana-schema checks dashboard files against Grafana's own typed schema, without a Grafana: unknown fields, wrong
// types and broken constraints are named, one per line. It knows nothing of what the dashboards show.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: grafana-schema FILE...")
		os.Exit(64)
	}
	// Without them, panels and queries would be decoded as free maps and anything would pass.
	plugins.RegisterDefaultPlugins()
	broken := 0
	for _, path := range os.Args[1:] {
		problems, err := check(path)
		if err != nil {
			problems = []string{err.Error()}
		}
		for _, problem := range problems {
			fmt.Printf("%s: %s\n", path, problem)
		}
		broken += len(problems)
	}
	if broken > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong with one dashboard file.
func check(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var decoded dashboard.Dashboard
	problems := spread(decoded.UnmarshalJSONStrict(raw))
	if len(problems) > 0 {
		return problems, nil
	}
	return spread(decoded.Validate()), nil
}

// spread turns the schema's collected errors into one line each.
func spread(err error) []string {
	if err == nil {
		return nil
	}
	var collected cog.BuildErrors
	if !errors.As(err, &collected) {
		return []string{err.Error()}
	}
	lines := make([]string, 0, len(collected))
	for _, one := range collected {
		lines = append(lines, one.Error())
	}
	return lines
}
