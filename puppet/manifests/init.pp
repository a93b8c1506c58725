# @summary Installs distlock, and writes its config file.
#
# A parameter that is undef is not written, and distlock's own default applies. Parameters have the names of the keys in
# the config file of the `distlock` command.
#
# @example From a directory with wheels (`make wheel`, and PyYAML), into a separate virtual environment
#   class { 'distlock':
#     endpoints   => ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379'],
#     pip_options => ['--no-index', '--find-links=/srv/wheels'],
#   }
#
# @example A package of your own, TLS and a password
#   class { 'distlock':
#     install   => 'package',
#     endpoints => ['https://etcd-1:2379', 'https://etcd-2:2379', 'https://etcd-3:2379'],
#     cacert    => '/etc/distlock/ca.pem',
#     user      => 'distlock',
#     password  => Sensitive('secret'),
#   }
#
# @param endpoints
#   Members of the etcd cluster.
# @param prefix
#   The realm: prefix of all its keys in etcd.
# @param cacert
#   CA bundle (PEM) for etcd's certificates.
# @param cert
#   File with the client certificate.
# @param key
#   File with the private key of the client certificate.
# @param tls_server_name
#   Name that etcd's certificates must have, instead of the endpoint's host.
# @param user
#   User in etcd.
# @param password
#   Its password; it is written to the config file, which then has mode 0600.
# @param password_file
#   A file with the password, instead of `password`.
# @param discovery_srv
#   A domain whose SRV records name the endpoints.
# @param transport
#   How to talk to etcd: `auto`, `http` or `grpc`.
# @param connect_timeout
#   Time limit for the first contact with etcd, in seconds.
# @param settings
#   Further keys of the config file: `{ 'release_timeout' => 60 }`.
# @param ensure
#   `present`, `latest` or a version of the package; `absent` removes package and config file.
# @param install
#   `venv`: with pip, into a separate virtual environment. `package`: with the system's package provider.
#   `none`: it is already installed.
# @param package_name
#   The name of the package: pip's, or the system's.
# @param package_provider
#   With `install => 'package'`: its provider, if it is not the system's default.
# @param venv
#   The directory of the virtual environment.
# @param python
#   The Python that creates it, 3.9 or later, with its module venv (Debian: the package python3-venv).
# @param system_site_packages
#   Whether the virtual environment sees the system's Python packages too.
# @param pip_options
#   Options for `pip install` that say where the package comes from: a directory, `['--no-index',
#   '--find-links=/srv/wheels']`, or an index of your own, `['--index-url=https://pypi.example.org/simple']`. Required
#   with `install => 'venv'`: the package is not on PyPI, where anybody could register its name.
# @param command_dir
#   Directory for links to the commands in the virtual environment.
# @param config_file
#   The config file. distlock reads `/etc/distlock/distlock.yaml` unless another one is named.
# @param config_owner
#   Owner of the config file.
# @param config_group
#   Group of the config file.
# @param config_mode
#   Mode of the config file. Default: 0600 if it contains a password, else 0644.
class distlock (
  Optional[Array[String[1], 1]] $endpoints = undef,
  Optional[String[1]] $prefix = undef,
  Optional[Distlock::Path] $cacert = undef,
  Optional[Distlock::Path] $cert = undef,
  Optional[Distlock::Path] $key = undef,
  Optional[String[1]] $tls_server_name = undef,
  Optional[String[1]] $user = undef,
  Optional[Variant[Sensitive[String[1]], String[1]]] $password = undef,
  Optional[Distlock::Path] $password_file = undef,
  Optional[String[1]] $discovery_srv = undef,
  Optional[Enum['auto', 'http', 'grpc']] $transport = undef,
  Optional[Distlock::Duration] $connect_timeout = undef,
  Distlock::Settings $settings = {},
  String[1] $ensure = 'present',
  Enum['venv', 'package', 'none'] $install = 'venv',
  String[1] $package_name = 'distlock-core',
  Optional[String[1]] $package_provider = undef,
  Distlock::Path $venv = '/opt/distlock',
  Distlock::Path $python = '/usr/bin/python3',
  Boolean $system_site_packages = false,
  Array[String[1]] $pip_options = [],
  Distlock::Path $command_dir = '/usr/local/bin',
  Distlock::Path $config_file = '/etc/distlock/distlock.yaml',
  Variant[String[1], Integer[0]] $config_owner = 'root',
  Variant[String[1], Integer[0]] $config_group = 'root',
  Optional[Pattern[/\A0[0-7]{3}\z/]] $config_mode = undef,
) {
  if $password and $password_file {
    fail('distlock: password and password_file exclude each other')
  }
  if $settings['password'] {
    fail('distlock: the password goes into the parameter password, which is Sensitive')
  }

  $absent = $ensure == 'absent'
  if $install == 'venv' and !$absent and $pip_options.empty {
    $folder = "pip_options => ['--no-index', '--find-links=/srv/wheels']"
    fail("distlock: say where the package comes from, which is not on PyPI: ${folder}, or an index of your own")
  }
  $commands = ['distlock', 'distlock-puppet', 'etcdlocker', 'distlock-etcd']
  $command_paths = $commands.map |$command| { "${command_dir}/${command}" }

  case $install {
    'venv': {
      if $absent {
        file { [$venv] + $command_paths:
          ensure => absent,
          force  => true,
        }
      } else {
        $site_packages = $system_site_packages ? {
          true  => ['--system-site-packages'],
          false => [],
        }
        exec { "distlock: ${venv}":
          command => [$python, '-m', 'venv'] + $site_packages + [$venv],
          creates => "${venv}/bin/pip",
        }
        -> package { $package_name:
          ensure          => $ensure,
          provider        => 'distlock_pip',
          command         => "${venv}/bin/pip",
          install_options => $pip_options,
        }

        $commands.each |$command| {
          file { "${command_dir}/${command}":
            ensure  => link,
            target  => "${venv}/bin/${command}",
            require => Package[$package_name],
          }
        }
      }
    }
    'package': {
      package { $package_name:
        ensure   => $ensure,
        provider => $package_provider,
      }
    }
    default: {}
  }

  $secret = $password ? {
    String  => Sensitive($password),
    default => $password,
  }
  $keys = {
    'endpoints'       => $endpoints,
    'prefix'          => $prefix,
    'cacert'          => $cacert,
    'cert'            => $cert,
    'key'             => $key,
    'tls_server_name' => $tls_server_name,
    'user'            => $user,
    'password'        => $secret,
    'password_file'   => $password_file,
    'discovery_srv'   => $discovery_srv,
    'transport'       => $transport,
    'connect_timeout' => $connect_timeout,
  }
  $given = $keys.filter |$_, $value| { $value =~ NotUndef }
  $default_mode = $password ? {
    undef   => '0644',
    default => '0600',
  }
  $mode = $config_mode ? {
    undef   => $default_mode,
    default => $config_mode,
  }

  if $absent {
    file { $config_file:
      ensure => absent,
      backup => false,
    }
  } else {
    if $config_file == '/etc/distlock/distlock.yaml' {
      file { '/etc/distlock':
        ensure => directory,
        owner  => $config_owner,
        group  => $config_group,
        mode   => '0755',
      }
    }

    file { $config_file:
      ensure    => file,
      owner     => $config_owner,
      group     => $config_group,
      mode      => $mode,
      content   => distlock::config_file($settings + $given),
      show_diff => false,
      # The present file may contain a password, which a backup would keep forever.
      backup    => false,
    }
  }
}
