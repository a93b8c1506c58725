# Names of the locks in the realm that the line so far leads to: within 0.3 s, or none.
_distlock_lock_names() {
  local name quoted typed=${1#[\"\']}
  while IFS= read -r name; do
    printf -v quoted %q "$name"
    if [[ $typed != "$1" ]]; then
      # The person has opened a quote, and bash closes it: without characters that mean something between quotes.
      [[ $name == *[\"\'\`\$\\\!]* ]] && continue
      quoted=$name
    fi
    if [[ $name == "$typed"* || $quoted == "$typed"* ]]; then printf '%s\n' "$quoted"; fi
  done < <(timeout 0.3 "${_distlock_line[0]%-puppet}" --complete-lock-names "${_distlock_line[@]:1}" \
    < /dev/null 2> /dev/null)
}

_distlock_file_names() {
  compgen -f -- "$1"
}

_distlock_dir_names() {
  compgen -d -- "$1"
}

# The command under the lock, which begins at this word of COMP_WORDS, as if the line began there.
_distlock_command_at() {
  if declare -F _comp_command_offset > /dev/null; then
    _comp_command_offset "$1"
  elif declare -F _command_offset > /dev/null; then
    _command_offset "$1"
  elif [[ $1 == "$COMP_CWORD" ]]; then
    mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
  else
    compopt -o default
  fi
}
