# Names of the locks in the realm that the line so far leads to: within 0.3 s, or none.
_distlock_lock_names() {
  local program=${(Q)words[1]} expl
  local -a names
  [[ ${program:t} == distlock ]] || program=${service%-puppet}
  names=(${(f)"$(timeout 0.3 ${~program} --complete-lock-names ${(Q)words[2,CURRENT-1]} < /dev/null 2> /dev/null)"})
  _wanted lock-names expl 'lock' compadd -a names
}

# The command under the lock, with or without a -- before it.
_distlock_command() {
  if [[ $words[1] == -- ]]; then
    shift words
    ((CURRENT--))
  fi
  _normal
}
