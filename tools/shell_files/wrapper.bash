
# Bash has split the line at = and : too. This hands shtab's function the words as the command gets them, with the value
# of an option as a word of its own, and gives bash the part of each reply that belongs to its own last word.
@FUNCTION@() {
  local -a joined=() begins=()
  local rest=$COMP_LINE piece word i
  for ((i = 0; i <= COMP_CWORD; i++)); do
    piece=${COMP_WORDS[i]}
    if [[ $i == 0 || $rest == [[:space:]]* ]]; then
      rest=${rest#"${rest%%[![:space:]]*}"}
      joined+=("$piece")
      begins+=("$i")
    else
      joined[${#joined[@]} - 1]+=$piece
    fi
    rest=${rest#"$piece"}
  done
  local last=$((${#joined[@]} - 1))
  local -a _distlock_line=("${joined[@]:0:last}")
  _distlock_line[0]=${_distlock_line[0]/#\~\//$HOME/}

  local -a words=("${joined[0]}")
  local lead='' takes_value='' options="${@FUNCTION@_valued[*]} ${@FUNCTION@_flags[*]}"
  for ((i = 1; i <= last; i++)); do
    word=${joined[i]}
    if [[ -n $takes_value ]]; then
      words+=("$word")
      takes_value=''
      continue
    fi
    if [[ $word == -- && $i -lt $last ]]; then
      _distlock_command_at "${begins[i + 1]}"
      return
    elif [[ $word != -* ]]; then
      [[ @COMMAND_AT@ ]] || { words+=("$word"); continue; }
      _distlock_command_at "${begins[i]}"
      return
    fi
    # One dash does, as for Go.
    if [[ $word == -[^-]* && " $options " != *" $word "* ]]; then
      [[ " $options " == *" -${word%%=*} "* || ($i == "$last" && " $options" == *" -$word"*) ]] && word=-$word
    fi
    if [[ $word == *=* ]]; then
      words+=("${word%%=*}" "${word#*=}")
      [[ $i == "$last" ]] && lead=${joined[i]%%=*}=
    else
      words+=("$word")
      [[ " ${@FUNCTION@_valued[*]} " == *" $word "* ]] && takes_value=1
    fi
  done

  local cut=${joined[last]} reply
  [[ -n ${piece//[=:]/} ]] && cut=${cut%"$piece"}
  local -a whole=("${COMP_WORDS[@]}")
  local whole_at=$COMP_CWORD
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$((${#words[@]} - 1))
  @SHTAB@
  COMP_WORDS=("${whole[@]}")
  COMP_CWORD=$whole_at
  for i in "${!COMPREPLY[@]}"; do
    reply=$lead${COMPREPLY[i]}
    [[ -z $lead && " ${@FUNCTION@_valued[*]} " == *" $reply "* && $reply == --* ]] && reply+==
    COMPREPLY[i]=${reply#"$cut"}
  done
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}

complete -F @FUNCTION@ @PROG@
