"""What the stage programs share: command line, parameters and folders, folds, bundles, the table of cases."""
