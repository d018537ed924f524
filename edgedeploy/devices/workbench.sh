# A private folder for one run on a device: sh -c PROGRAM hold PLACE TOKEN WHO LEASE
#
# It is there, and what works in it lives, for as long as this program hears from the host: a line
# within every LEASE seconds. When the input or the lease ends, whatever works in the folder is
# killed, then the folder goes. A run that was killed itself is cleared away by the next: the lock
# tells that nobody else is at work.
LC_ALL=C
export LC_ALL
umask 077
for tool in flock head ls mkdir rm sleep tail timeout df; do
    command -v $tool >/dev/null || { echo "! tool $tool"; exit 1; }
done
mkdir -p "$1" && cd "$1" && here=$(pwd -P) && true >>lock || { echo '! folder'; exit 1; }
exec 9>>lock
flock -n -x 0 <&9 || { echo "busy $(head -c 256 owner 2>/dev/null | head -n 1)"; exit 0; }
trap '' HUP PIPE
ended() {
    ! ls -l /proc/[0-9]*/cwd 2>/dev/null | {
        some=
        while IFS= read -r line; do
            case $line in
            *"/cwd -> $here/run-"*)
                line=${line#*/proc/}
                kill -9 "${line%%/*}" 2>/dev/null && some=1
                ;;
            esac
        done
        [ "$some" ]
    }
}
clear_away() {
    time=0
    while [ $((time += 1)) -le 40 ]; do
        ended && rm -rf "$here"/run-* 2>/dev/null && return 0
        sleep 0.2 2>/dev/null || sleep 1
    done
    return 1
}
clear_away || { echo '! left'; exit 1; }
echo "$3" >owner
trap 'clear_away; exit 1' TERM INT
mkdir "run-$2" || { echo '! folder'; exit 1; }
echo "at $here/run-$2"
echo "free $(df -kP . | tail -n 1)"
while line=$(timeout "$4" head -n 1 9>&-) && [ "$line" ]; do :; done
clear_away && : >owner && echo cleared
