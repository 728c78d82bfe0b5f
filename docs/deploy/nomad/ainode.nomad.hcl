# A fleet on Nomad: a machine on each of three clients, with all roles (docs/deploy.md). In this folder:
#   nomad var put nomad/jobs/ainode database_password=@password
#   nomad job run ainode.nomad.hcl
variable "image" {
  type    = string
  default = "localhost/ainode"
}

job "ainode" {
  type = "service"

  update {
    max_parallel      = 1
    health_check      = "checks"
    healthy_deadline  = "20m"
    progress_deadline = "60m"
  }

  group "machine" {
    count = 3

    constraint {
      distinct_hosts = true
    }

    # Host volumes of the client: a disk of its own, owned by user 10104, and /etc/ainode as `ainode join` wrote it.
    volume "storage" {
      type      = "host"
      source    = "ainode-storage"
      read_only = false
    }
    volume "configuration" {
      type      = "host"
      source    = "ainode-configuration"
      read_only = false
    }

    network {
      mode = "host"
      port "dicom" {
        static = 11112
      }
      port "files" {
        static = 11113
      }
      port "copies" {
        static = 11114
      }
    }

    service {
      name     = "ainode-dicom"
      port     = "dicom"
      provider = "nomad"
      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "node" {
      driver         = "docker"
      user           = "10104:10104"
      shutdown_delay = "5s"
      # More than the default of the client: raise max_kill_timeout there.
      kill_timeout = "690s"

      config {
        image           = var.image
        network_mode    = "host"
        uts_mode        = "host"
        entrypoint      = ["sh", "/local/start.sh"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        shm_size        = 1073741824
        mount {
          type   = "tmpfs"
          target = "/tmp"
        }
      }

      volume_mount {
        volume      = "storage"
        destination = "/var/lib/ainode"
      }
      volume_mount {
        volume      = "configuration"
        destination = "/etc/ainode"
      }

      env {
        DRAIN_SECONDS = "600"
      }

      template {
        data        = file("../start.sh")
        destination = "local/start.sh"
        # Nothing in it is for Nomad.
        left_delimiter  = "<<<"
        right_delimiter = ">>>"
      }
      template {
        data        = "{{ with nomadVar \"nomad/jobs/ainode\" }}PGPASSWORD={{ .database_password }}{{ end }}"
        destination = "secrets/database.env"
        env         = true
      }

      resources {
        cores  = 4
        memory = 16384
      }
    }
  }
}
