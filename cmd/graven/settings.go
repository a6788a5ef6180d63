package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// envPrefix begins the name of every variable that sets a flag.
const envPrefix = "GRAVEN"

// settingKey marks flags that describe where a process runs, as opposed to what
// one call of it does; only they are also read from the environment and the
// config file.
const settingKey = "graven_setting"

// settings marks all flags of the set but those named. A map, such as labels,
// must be named: viper folds the case of keys.
func settings(fs *pflag.FlagSet, except ...string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(except, f.Name) {
			_ = fs.SetAnnotation(f.Name, settingKey, nil)
		}
	})
}

func isSetting(f *pflag.Flag) bool {
	_, ok := f.Annotations[settingKey]
	return ok
}

// applySettings sets each flag that the command line left alone from the
// environment, else from the config file.
func applySettings(cmd *cobra.Command, file string) error {
	settings(cmd.Root().PersistentFlags())
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if file == "" {
		file = v.GetString("config")
	}
	if file != "" {
		if err := readConfig(v, cmd.Root(), file); err != nil {
			return err
		}
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !isSetting(f) || failed != nil {
			return
		}
		if text, ok := setting(v, f.Name); ok {
			if err := cmd.Flags().Set(f.Name, text); err != nil {
				failed = usagef("%s (from %s or the config file): %s", f.Name, envName(f.Name), err)
			}
		}
	})
	return failed
}

func envName(flag string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// setting returns the text for a flag; a list in the file becomes commas.
func setting(v *viper.Viper, name string) (string, bool) {
	if !v.IsSet(name) {
		return "", false
	}
	if list, ok := v.Get(name).([]any); ok {
		texts := make([]string, len(list))
		for i, x := range list {
			texts[i] = fmt.Sprint(x)
		}
		return strings.Join(texts, ","), true
	}
	return v.GetString(name), true
}

// readConfig reads the file and refuses keys that are no setting of any command,
// because a misspelt one would be ignored in silence.
func readConfig(v *viper.Viper, root *cobra.Command, file string) error {
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("config file %s does not exist", file)
	case err != nil:
		return usagef("config file %s: %s", file, err)
	}
	known := map[string]bool{}
	visitCommands(root, func(c *cobra.Command) {
		visit := func(f *pflag.Flag) { known[f.Name] = known[f.Name] || isSetting(f) }
		c.Flags().VisitAll(visit)
		c.PersistentFlags().VisitAll(visit)
	})
	for _, k := range v.AllKeys() {
		if v.InConfig(k) && !known[k] {
			return usagef("config file %s: %q is no setting; settings are the flags of server, agent and dev (but label), api and output", file, k)
		}
		if strings.Contains(k, ".") {
			return usagef("config file %s: %q: settings do not nest", file, k)
		}
	}
	return nil
}

func visitCommands(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		visitCommands(sub, visit)
	}
}
