# Names of the locks in the realm that the line so far leads to: within 0.3 s, or none.
function _distlock_lock_names
    set -l words (commandline -opc)
    set -l program (string replace -r -- '-puppet$' '' $words[1])
    set -e words[1]
    timeout 0.3 $program --complete-lock-names $words </dev/null 2>/dev/null
end

function _distlock_file_names
    __fish_complete_path (commandline -ct | string replace -r -- '^--?[a-z-]+=' '')
end

function _distlock_dir_names
    __fish_complete_directories (commandline -ct | string replace -r -- '^--?[a-z-]+=' '')
end
