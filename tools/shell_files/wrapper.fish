
# The line from the command under the lock on: it begins at the first word that is no option, or after a --.
function @FUNCTION@_inner
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                string escape -- $words
                return 0
            case '-*=*'
                set -e words[1]
            case '-*'
                if contains -- $words[1] $@SHTAB@_opts_with_value
                    set -q words[2]; or return 1 # the cursor is at its value
                    set -e words[1]
                end
                set -e words[1]
            case '*'
                if test @COMMAND_AT@
                    string escape -- $words
                    return 0
                end
                set -e words[1]
        end
    end
    test @COMMAND_AT@; and not string match -q -- '-*' (commandline -ct)
end

function @FUNCTION@_in_command
    @FUNCTION@_inner >/dev/null
end

# Options of @PROG@ end where the command begins.
function @SHTAB@_using
    not @FUNCTION@_in_command; or return 1
    @SHTAB@_scan
    test "$@SHTAB@_cmdpath" = "$argv"
end

complete -c @PROG@ -n @FUNCTION@_in_command -xka '(complete -C (string join " " -- (@FUNCTION@_inner) (commandline -ct)))'
