"""What is in an image, and where: five classes with their boxes, the best one's map drawn."""

from cam_repro.command import command

if __name__ == "__main__":
    command("cam", "cam_repro.cam:show_images")
